"""Readers of files from elsewhere, with damaged and hostile content.

Each reader starts from a small valid file. Bytes are changed, removed, repeated and replaced by
hostile text, and the reader must return or raise one of the package's own errors, within ten
seconds of processor time and a gigabyte of additional memory. Other outcomes are findings; their
inputs are kept in the folder ``findings``. The input of a number is always the same.

    python benchmarks/fuzz.py fuzz --minutes 10
    python benchmarks/fuzz.py fuzz --readers cif csv --minutes 1
    python benchmarks/fuzz.py fuzz --readers cif --only 4711     # show one finding
"""

import contextlib
import io
import json
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import common
import tyro

SECONDS = 10
MEMORY = 2**30
# Text that readers have to expect from files of any origin.
HOSTILE = (
    *(b"nan", b"inf", b"-1", b"0", b"1e308", b"1e-320", b"99999999999999999999", b"0x10", b"?"),
    *(b".", b"'", b'"', b";", b"#", b"\n", b"\r", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"_"),
    *(b"loop_", b"data_", b"(", b")", b"[" * 200, b"{" * 200, b",", b"9" * 400, b"\xe2\x88\x92"),
    *(b"../../x", b"Xx", b"D", b"true", b"null", b"1e5 1e5 1e5", b"1/0", b"-0.0", b"\t" * 50),
)


@dataclass(kw_only=True)
class Args(common.Args):
    """Readers of files from elsewhere, with damaged and hostile content."""

    folder: tyro.conf.Positional[Path]
    """Folder of the inputs and findings."""
    readers: tuple[str, ...] = ()
    """Readers to test (default: all)."""
    minutes: float = 10.0
    """Time for each reader."""
    first: int = 0
    """Number of the first input."""
    only: int | None = None
    """Read only the input with this number and show what happens."""


def structure_text(fmt: str) -> bytes:
    """Return the text of a crystal in a format."""
    from pymatgen.core import Lattice, Structure
    from pymatgen.io.cif import CifWriter

    crystal = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.905), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]]
    )
    if fmt == "cif":
        return str(CifWriter(crystal, symprec=0.01)).encode()
    if fmt == "extxyz":
        from ase.io import write

        file = io.StringIO()
        write(file, crystal.to_ase_atoms(), format="extxyz")
        return file.getvalue().encode()
    return crystal.to(fmt=fmt).encode()


def read_collection(path: Path) -> None:
    """Prepare the crystals of a file."""
    from crystal_gym import load_collection

    load_collection(path, progress=False)


def read_labels(path: Path) -> None:
    """Read a pickle of DFT labels."""
    from crystal_gym.collections.perov5_pickle import read_label_grid

    read_label_grid(path.read_bytes(), path)


def read_arrays(path: Path) -> None:
    """Read a cached file of arrays."""
    from crystal_gym.collections.preparation import load_arrays

    load_arrays(path)


def read_policy(path: Path) -> None:
    """Read a policy, one of whose files is the input."""
    from crystal_agents import load_policy

    folder = path.parent / "policy"
    (folder / path.name).write_bytes(path.read_bytes())
    load_policy(folder)


def read_config(path: Path) -> None:
    """Read the configuration of a benchmark."""
    from crystal_agents.experiments.benchmark.config import load_benchmark_config

    load_benchmark_config(path)


def read_dataset(path: Path) -> None:
    """Read the transitions of a Minari dataset whose HDF5 file is the input."""
    from crystal_datasets import load_transitions

    dataset = Path(os.environ["MINARI_DATASETS_PATH"]) / "crystal-gym/goldschmidt/expert-val-v0"
    (dataset / "data" / "main_data.hdf5").write_bytes(path.read_bytes())
    load_transitions("crystal-gym/goldschmidt/expert-val-v0", progress=False)


def read_arguments(path: Path) -> None:
    """Parse a command line, one argument in each line."""
    from crystal_agents.cli import main as cli

    lines = path.read_bytes().decode(errors="replace").replace("\x00", "").splitlines()
    with contextlib.ExitStack() as stack:
        for command in cli.COMMANDS.values():
            stack.enter_context(mock.patch.object(command, "run", return_value=None))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        cli.main(lines)


def label_grid() -> bytes:
    """Return a pickle of labels of two crystals."""
    values = (0.5, 0.4, 1.2, -4.5, -5.0, -4.4, -5.1)
    return pickle.dumps({3: {4: {0: values, 1: values}}}, protocol=2)


def small_arrays() -> bytes:
    """Return a file of two arrays."""
    import numpy as np

    file = io.BytesIO()
    np.savez(file, numbers=np.arange(40.0), names=np.array(["a", "bc"]))
    return file.getvalue()


def crystal_table() -> bytes:
    """Return a CSV file with two crystals."""
    cif = structure_text("cif").decode().replace('"', '""')
    return f'material_id,split,cif\na,train,"{cif}"\nb,val,"{cif}"\n'.encode()


def policy_file(name: str) -> bytes:
    """Return a file of a pretrained policy."""
    from crystal_agents.policies.pretrained import pretrained_folder

    return (pretrained_folder("goldschmidt/egnn") / name).read_bytes()


def config_text() -> bytes:
    """Return the configuration of a small benchmark."""
    import crystal_agents

    presets = Path(crystal_agents.__path__[0]) / "experiments" / "benchmark" / "presets"
    return (presets / "smoke.toml").read_bytes()


def dataset_file() -> bytes:
    """Return the HDF5 file of a small dataset, which is built."""
    from crystal_datasets import build_dataset

    build_dataset("goldschmidt", "val", trajectories=1, progress=False)
    folder = Path(os.environ["MINARI_DATASETS_PATH"])
    return (folder / "crystal-gym/goldschmidt/expert-val-v0/data/main_data.hdf5").read_bytes()


# The name of the file, its valid content, and the reader.
READERS: dict[str, tuple[str, Callable[[], bytes], Callable[[Path], None]]] = {
    "cif": ("crystal.cif", lambda: structure_text("cif"), read_collection),
    "csv": ("crystals.csv", crystal_table, read_collection),
    "poscar": ("crystal.vasp", lambda: structure_text("poscar"), read_collection),
    "extxyz": ("crystal.xyz", lambda: structure_text("extxyz"), read_collection),
    "json": ("crystal.json", lambda: structure_text("json"), read_collection),
    "dataset": ("main_data.hdf5", dataset_file, read_dataset),
    "cache": ("arrays.npz", small_arrays, read_arrays),
    "weights": ("policy.safetensors", lambda: policy_file("policy.safetensors"), read_policy),
    "policy": ("policy.json", lambda: policy_file("policy.json"), read_policy),
    "labels": ("labels.p", label_grid, read_labels),
    "config": ("config.toml", config_text, read_config),
    "arguments": (
        "arguments.txt",
        lambda: b"evaluate\nperov-5/egnn\n--split\nval\n--start-sites\n1\n--mask\nnone",
        read_arguments,
    ),
}


def changed(content: bytes, number: int) -> bytes:
    """Return the input with this number, one to eight changes of a valid content."""
    draw = random.Random(number)  # noqa: S311 - not for security
    data = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        at = draw.randrange(len(data) + 1)
        length = min(draw.choice((1, 1, 2, 4, 8, 64, 1024)), len(data) - at)
        kind = draw.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = draw.choice(HOSTILE)
        elif kind == 3:
            data[at : at + length] = draw.choice(HOSTILE)
        elif kind == 4:
            other = draw.randrange(len(data) + 1)
            data[at:at] = data[other : other + length] * draw.choice((1, 1, 2, 50))
        elif kind == 5:
            data[at : at + length] = draw.randbytes(length)
        elif draw.random() < 0.2:
            del data[at:]
    return bytes(data)


def outcome(read: Callable[[Path], None], path: Path) -> str:
    """Return an empty string if a reader returns or raises an own error, else what happened."""
    from crystal_gym.errors import CrystalGymError

    def late(*_: Any) -> None:
        raise TimeoutError(f"the reader took longer than {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    signal.signal(signal.SIGPROF, late)
    # The processor time of this process, and the time of one that only waits.
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(10 * SECONDS)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            read(path)
    except CrystalGymError:
        pass
    except BaseException:  # noqa: BLE001 - any other error is a finding
        return traceback.format_exc(limit=-6)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    return ""


def work(name: str, folder: Path, first: int, minutes: float) -> None:
    """Read inputs until the time is over; print each number before its input is read."""
    file_name, _, read = READERS[name]
    content = (folder / f"{file_name}.valid").read_bytes()
    path = folder / file_name
    path.write_bytes(content)
    before = outcome(read, path)
    if before:
        sys.exit(f"The valid input of {name} is not read:\n{before}")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, used + MEMORY))
    end, number = time.monotonic() + 60 * minutes, first
    while time.monotonic() < end:
        print(json.dumps([number, None]), flush=True)
        path.write_bytes(changed(content, number))
        print(json.dumps([number, outcome(read, path)]), flush=True)
        number += 1


def prepare(name: str, folder: Path) -> None:
    """Write the valid input of a reader."""
    file_name, make, _ = READERS[name]
    folder.mkdir(parents=True, exist_ok=True)
    if name in {"policy", "weights"}:
        (folder / "policy").mkdir(exist_ok=True)
        for part in ("policy.json", "policy.safetensors"):
            (folder / "policy" / part).write_bytes(policy_file(part))
    (folder / f"{file_name}.valid").write_bytes(make())


def fuzz(name: str, args: Args) -> dict[str, Any]:
    """Test one reader in processes of its own, which are started again when they end."""
    folder = args.folder.absolute() / name
    names = {"CRYSTAL_GYM_CACHE": "cache", "MINARI_DATASETS_PATH": "minari"}
    changes = {key: str(folder / place) for key, place in names.items()}
    os.environ.update(changes)
    prepare(name, folder)
    end, number, done, findings = time.monotonic() + 60 * args.minutes, args.first, 0, []
    while (left := end - time.monotonic()) > 0:
        call = f"fuzz.work({name!r}, pathlib.Path({str(folder)!r}), {number}, {left / 60})"
        process = subprocess.Popen(  # noqa: S603 - this script
            [sys.executable, "-c", f"import fuzz, pathlib; {call}"],
            cwd=Path(__file__).parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        result: str | None = ""
        for line in process.stdout or ():
            number, result = json.loads(line)
            if result is None:
                continue
            done += 1
            if result:
                findings.append(keep(name, number, result, args))
        process.wait()
        if process.returncode == 1 and not done:
            sys.exit(f"The reader {name} does not start; its messages are above.")
        if result is None:
            findings.append(keep(name, number, f"the process ended ({process.returncode})", args))
        number += 1
    return {"inputs": done, "findings": len(findings), "numbers": findings[:50]}


def keep(name: str, number: int, reason: str, args: Args) -> int:
    """Store the input of a finding and what happened."""
    file_name = READERS[name][0]
    content = (args.folder / name / f"{file_name}.valid").read_bytes()
    place = args.folder / "findings" / f"{name}-{number}"
    place.mkdir(parents=True, exist_ok=True)
    (place / file_name).write_bytes(changed(content, number))
    (place / "reason.txt").write_text(reason)
    print(f"{name} {number}: {reason.strip().splitlines()[-1]}", file=sys.stderr)
    return number


def measure(args: Args) -> dict[str, Any]:
    """Test the readers one after the other."""
    return {name: fuzz(name, args) for name in args.readers or READERS}


def main() -> None:
    """Test the readers, or show what happens with one input."""
    args = common.parse(Args)
    if args.only is None:
        common.run_script(Args, measure)
        return
    for name in args.readers:
        prepare(name, args.folder / name)
        file_name, _, read = READERS[name]
        path = args.folder / name / file_name
        path.write_bytes(changed(path.with_name(f"{file_name}.valid").read_bytes(), args.only))
        print(path, outcome(read, path) or "no finding")


if __name__ == "__main__":
    main()
