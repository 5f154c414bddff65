"""Check reinforcement-learning libraries with crystal-gym, each in its own virtual environment.

::

    python tools/check_clients.py --cleanrl CHECKOUT     # all clients
    python tools/check_clients.py torchrl skrl           # some of them
    python tools/check_clients.py --report-only          # the page from the stored results

Run it with the Python of an environment in which crystal-gym is installed with its extra `agents`.
The virtual environments of the clients see the packages of that environment, and pip adds what a
client needs besides. Clients that require an older Gymnasium are installed without their
dependencies. The results are stored in docs/data/clients.json and shown in docs/clients.md. A
checkout of CleanRL (https://github.com/vwxyzjn/cleanrl) is needed for its client only.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sysconfig
import tempfile
import venv
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "docs" / "data" / "clients.json"
PAGE = ROOT / "docs" / "clients.md"
# Packages that have the same version in all environments.
SHARED = ("gymnasium", "numpy", "torch")
BEGIN, END = "<!-- clients: begin -->", "<!-- clients: end -->"


class Client(NamedTuple):
    """A library and how it is installed.

    Attributes:
        title: Name in the table.
        package: Its distribution with the version, or a commit for a library without one.
        alone: Whether it is installed without its dependencies.
        others: Further packages, with their dependencies.
        others_alone: Further packages without their dependencies.
    """

    title: str
    package: str
    alone: bool = False
    others: tuple[str, ...] = ()
    others_alone: tuple[str, ...] = ()

    @property
    def commands(self) -> list[list[str]]:
        """Arguments of `pip install`, one list for each call."""
        if self.package.startswith("commit "):
            return []
        if not self.alone:
            return [[self.package, *self.others]]
        calls = [["--no-deps", self.package, *self.others_alone]]
        return [*calls, list(self.others)] if self.others else calls


CLIENTS = {
    "gymnasium": Client("Gymnasium", "gymnasium==1.4.0"),
    "minari": Client("Minari", "minari[create]==0.5.4"),
    "stable-baselines3": Client(
        "Stable-Baselines3 and contrib", "stable-baselines3==2.9.2", others=("sb3-contrib==2.9.2",)
    ),
    "rl-zoo3": Client("RL Baselines3 Zoo", "rl-zoo3==2.9.2"),
    "cleanrl": Client("CleanRL", "commit fe8d8a0"),
    "torchrl": Client("TorchRL", "torchrl==0.14.1", others=("tensordict==0.14.3",)),
    "tianshou": Client("tianshou", "tianshou==2.0.1"),
    "skrl": Client("skrl", "skrl==2.1.1"),
    "d3rlpy": Client(
        "d3rlpy",
        "d3rlpy==2.8.1",
        alone=True,
        others=("structlog", "colorama", "dataclasses-json", "gym", "scikit-learn"),
    ),
    "imitation": Client(
        "imitation",
        "imitation==1.0.1",
        alone=True,
        others=("scikit-learn", "sacred", "huggingface-sb3", "optuna", "datasets"),
        others_alone=("seals==0.2.1",),
    ),
    "rllib": Client(
        "RLlib",
        "ray==2.60.0",
        alone=True,
        others=(
            *("tensorboardX", "pyarrow>=17", "dm-tree", "lz4", "ormsgpack", "jsonschema"),
            *("msgpack<2", "click", "fsspec", "pyyaml", "requests"),
        ),
    ),
}


def main() -> int:
    """Check the chosen clients and write the page; return 1 if a check failed."""
    parser = argparse.ArgumentParser(description="Check the clients of crystal-gym.")
    parser.add_argument("clients", nargs="*", metavar="client", help=f"of {', '.join(CLIENTS)}")
    parser.add_argument("--folder", type=Path, help="keep the virtual environments in this folder")
    parser.add_argument("--cleanrl", type=Path, help="checkout of CleanRL")
    parser.add_argument("--report-only", action="store_true", help="only write the page")
    args = parser.parse_args()
    unknown = set(args.clients) - set(CLIENTS)
    if unknown:
        parser.error(f"Expected clients of {', '.join(CLIENTS)}, got {', '.join(sorted(unknown))}.")
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    names = [] if args.report_only else args.clients or list(CLIENTS)
    if "cleanrl" in names and args.cleanrl is None:
        parser.error("Expected the checkout of CleanRL. Pass --cleanrl or name other clients.")
    if names:
        record["versions"] = {"Python": platform.python_version()} | {
            name: _public_version(name) for name in SHARED
        }
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        for name in names:
            print(f"{name} …", flush=True)
            python = _install(CLIENTS[name], folder / name)
            record[name] = _check(name, python, args.cleanrl, folder / name / "check.log")
            RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write_page(record)
    failed = [
        f"{name}: {check['name']}: {check['error']}"
        for name in names
        for check in record[name]["checks"]
        if not check["passed"]
    ]
    print("\n".join(failed) if failed else "All checks passed.")
    return int(bool(failed))


def _install(client: Client, folder: Path) -> Path:
    """Create a virtual environment, install a client and this checkout, and return its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, symlinks=True)
        site = next(folder.glob("lib/python*/site-packages"))
        # Packages of the environment that runs this script come after those of the client.
        (site / "base.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pins = folder / "constraints.txt"
    pins.write_text("".join(f"{name}=={_public_version(name)}\n" for name in SHARED))
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for arguments in (*client.commands, ["--no-deps", "--editable", str(ROOT)]):
        subprocess.run(  # noqa: S603 - the packages of the table above
            [*pip, "--constraint", str(pins), *arguments], check=True, stderr=subprocess.DEVNULL
        )
    return python


def _public_version(name: str) -> str:
    """Return the version of an installed package without the label of its build."""
    return importlib.metadata.version(name).partition("+")[0]


def _check(name: str, python: Path, cleanrl: Path | None, log: Path) -> dict[str, Any]:
    """Run the checks of a client, write its other output to a file, and return the results."""
    script = ROOT / "tools" / "clients" / f"check_{name.replace('-', '_')}.py"
    arguments = ["--cleanrl", str(cleanrl)] if name == "cleanrl" else []
    with log.open("w") as file:
        result = subprocess.run(  # noqa: S603 - a script of this repository
            [python, script, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            check=False,
        )
    lines = result.stdout.splitlines()
    if not lines or not lines[-1].startswith("{"):
        message = f"exit code {result.returncode}, see {log}"
        failed = {"name": "start", "needs": "", "defect": False, "passed": False, "error": message}
        return {"requires": "", "checks": [failed]}
    return json.loads(lines[-1])


def write_page(record: dict[str, Any]) -> None:
    """Replace the table between the markers of docs/clients.md."""
    text = PAGE.read_text()
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    PAGE.write_text(f"{head}{BEGIN}\n{table(record)}\n{END}{tail}")


def table(record: dict[str, Any]) -> str:
    """Return the table of clients and the list of measurements, in Markdown."""
    rows = [
        "| client | version | works as it is | works with … | does not work |",
        "|---|---|---|---|---|",
    ]
    notes = []
    for name, client in CLIENTS.items():
        if name not in record:
            continue
        checks = record[name]["checks"]
        as_is = [check["name"] for check in checks if _works(check) and not check["needs"]]
        needs = dict.fromkeys(
            check["needs"] for check in checks if _works(check) and check["needs"]
        )
        aided = [
            f"{need}: "
            + ", ".join(
                check["name"] for check in checks if _works(check) and check["needs"] == need
            )
            for need in needs
        ]
        broken = [check["name"] for check in checks if check["defect"] and check["passed"]]
        broken += [f"{check['name']}: {check['error']}" for check in checks if not check["passed"]]
        version = client.package.split("==")[-1]
        cells = ("<br>".join(cell) or "–" for cell in (as_is, aided, broken))
        rows.append(f"| {client.title} | {version} | {' | '.join(cells)} |")
        notes += [
            f"- {client.title}, {check['name']}: {check['note']}."
            for check in checks
            if _works(check) and check["note"]
        ]
    pins = [
        "| client | requires Gymnasium | install beside crystal-gym |",
        "|---|---|---|",
        *(
            f"| {client.title} {client.package.split('==')[-1]} | "
            f"{record[name]['requires'].strip('()')} | {_shell(client)} |"
            for name, client in CLIENTS.items()
            if name in record and client.alone
        ),
    ]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    measured = f"All with {versions}. Measured in these checks:"
    return "\n".join([*rows, "", measured, "", *notes, "", "## Older Gymnasium", "", *pins])


def _works(check: dict[str, Any]) -> bool:
    return check["passed"] and not check["defect"]


def _shell(client: Client) -> str:
    """Return the commands that install a client, as inline code."""
    quoted = (
        " ".join(f"'{word}'" if set(word) & set("<>[") else word for word in command)
        for command in client.commands
    )
    return "<br>".join(f"`pip install {command}`" for command in quoted)


if __name__ == "__main__":
    raise SystemExit(main())
