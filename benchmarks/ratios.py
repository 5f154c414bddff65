"""All speed ratios of the project in one run, beside the committed ones.

The scripts of this folder run one after the other on embedded data, each in its own process. Their
results are stored in the folder; a script whose result is there is not run again. The ratios are
written to ``ratios.json`` with a description of the machine, and compared with those of
``docs/data/speed/ratios.json``. This is a report: a different ratio is not an error.

    make bench
    python benchmarks/ratios.py bench --only environment preparation
    cp bench/ratios.json docs/data/speed/ratios.json   # to commit them
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import tyro

HERE = Path(__file__).parent
COMMITTED = HERE.parent / "docs" / "data" / "speed" / "ratios.json"
POLICY = "goldschmidt/egnn"
# The script and arguments of each measurement.
MEASUREMENTS: dict[str, tuple[str, ...]] = {
    "environment": ("environment.py",),
    "preparation": ("preparation.py",),
    "expert dataset": ("expert_build.py",),
    "training of egnn-paper": ("training.py", "--network", "egnn-paper"),
    "training of egnn-paper, bf16-mixed": (
        *("training.py", "--network", "egnn-paper", "--precision", "bf16-mixed"),
    ),
    "training of gcn": ("training.py", "--network", "gcn"),
    "training step of egnn": ("training_step.py", "--no-levers"),
    "evaluation": ("evaluation.py", POLICY, "--collection", "goldschmidt"),
    "PPO": ("online.py", "--policy", POLICY),
    "fill": ("fill.py", POLICY),
    "energies": ("energy.py",),
}


@dataclass
class Args:
    """All speed ratios of the project, beside the committed ones."""

    folder: tyro.conf.Positional[Path] = Path("bench")
    """Folder of the results; measurements whose results it contains are not repeated."""
    only: tuple[str, ...] = ()
    """Names of the measurements to run (default: all)."""
    threads: int = 1
    """Threads of PyTorch in each process."""


def ratios_in(result: Any, path: tuple[str, ...] = (), *, found: bool = False) -> Iterator[Any]:
    """Yield the name and the value of each number below a key that contains ``ratio``.

    Of quartiles, the value is the median.
    """
    if isinstance(result, Mapping):
        for key, value in result.items():
            yield from ratios_in(value, (*path, key), found=found or "ratio" in key)
    elif found and isinstance(result, list):
        yield ", ".join(path), statistics.median(result)
    elif found and isinstance(result, int | float):
        yield ", ".join(path), float(result)


def measure(name: str, args: Args) -> dict[str, Any]:
    """Run one script, unless the folder has its result, and return the result."""
    file = args.folder / f"{name.replace(' ', '-').replace(',', '')}.json"
    if not file.is_file():
        script, *options = MEASUREMENTS[name]
        command = [sys.executable, str(HERE / script), *options, "--json", str(file)]
        environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return json.loads(file.read_text())


def main() -> None:
    """Measure, write the ratios and print the comparison."""
    from rich.console import Console
    from rich.table import Table

    args = tyro.cli(Args)
    unknown = set(args.only) - set(MEASUREMENTS)
    if unknown:
        sys.exit(f"Expected measurements among {', '.join(MEASUREMENTS)}, got {min(unknown)!r}.")
    args.folder.mkdir(parents=True, exist_ok=True)
    committed = json.loads(COMMITTED.read_text())["ratios"] if COMMITTED.is_file() else {}
    table = Table("measurement", "ratio", "now", "committed", "change")
    ratios: dict[str, dict[str, float]] = {}
    for name in args.only or MEASUREMENTS:
        ratios[name] = dict(ratios_in(measure(name, args)))
        for key, value in ratios[name].items():
            before = committed.get(name, {}).get(key)
            old, change = ("", "") if before is None else (f"{before:.3g}", f"{value / before:.0%}")
            table.add_row(name, key, f"{value:.3g}", old, change)
        table.add_section()
    text = json.dumps({"ratios": ratios, "machine": common.machine()}, indent=2)
    (args.folder / "ratios.json").write_text(text + "\n")
    Console().print(table)


if __name__ == "__main__":
    main()
