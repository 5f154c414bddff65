"""Commands that are killed at random moments and run again, compared with undisturbed runs.

Each trial starts a command in a new folder, sends SIGKILL at a moment drawn evenly from the
duration of an undisturbed run, and starts the same command again. Afterwards, every file must be
that of the undisturbed run; times, dates, checkpoints and temporary files are not compared.
Directly after the kill, no file with the name of a result may have another content, apart from the
records that the commands resume from. Trials are stored, so a repeated command goes on after the
last one.

    python benchmarks/kills.py kills --trials 20
    python benchmarks/kills.py kills --commands train finetune --trials 5
"""

import contextlib
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import common
import tyro

CLI = (sys.executable, "-m", "crystal_agents")
BUILD = (*CLI, "build-dataset", "goldschmidt", "--splits", "train", "val")
TRAIN = (*CLI, "train", "goldschmidt", "--epochs", "3", "--trajectories", "1")
FINETUNE = (*CLI, "finetune", "goldschmidt/egnn", "--num-envs", "16", "--steps", "2000")
OFTEN = ("--checkpoint-seconds", "0")
# The arguments of each command, and the commands that prepare its folder.
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]] = {
    "prepare": ((*CLI, "prepare", "crystals.csv"), ()),
    "build-dataset": (BUILD, ()),
    "train": ((*TRAIN, *OFTEN), (BUILD,)),
    "finetune": ((*FINETUNE, *OFTEN), ()),
    "benchmark": ((*CLI, "benchmark", "smoke", "--folder", "benchmark"), (BUILD,)),
}
# Keys of JSON records and columns of tables that contain times.
TIMES = {"seconds", "date", "transitions_per_second", "steps_per_second", "time", "hardware"}
# Records that grow while a command runs, and from which it resumes.
RESUMED = ("metrics.csv", "benchmark.json")
# Parts of the paths of checkpoints, of temporary files, and of the archives of Stable-Baselines3,
# which contain times.
IGNORED = ("home/", "checkpoint", "model.zip", "/.")


@dataclass(kw_only=True)
class Args(common.Args):
    """Commands that are killed at random moments and run again."""

    folder: tyro.conf.Positional[Path]
    """Folder of the undisturbed runs and of the finished trials."""
    commands: tuple[str, ...] = tuple(COMMANDS)
    """Commands to run."""
    trials: int = 20
    """Kills of each command."""
    crystals: int = 400
    """Crystals of the file that `prepare` reads."""
    seed: int = 0
    """Seed of the moments."""


def write_crystals(path: Path, count: int) -> None:
    """Write the first crystals of the embedded collection to a CSV file."""
    from crystal_gym import load_collection

    collection = load_collection("goldschmidt")
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["material_id", "cif"])
        for row in range(min(count, len(collection))):
            rows.writerow([collection.ids[row], collection.structure(row).to(fmt="cif")])


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of commands that write to a folder only."""
    names = {"CRYSTAL_GYM_CACHE": "cache", "MINARI_DATASETS_PATH": "minari", "HOME": "home"}
    return (
        os.environ
        | {name: str(folder / place) for name, place in names.items()}
        | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    )


def run(command: tuple[str, ...], folder: Path, after: float | None = None) -> float:
    """Run a command, or kill it and its workers after some seconds, and return the duration."""
    start = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - this package
        command,
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{errors.decode()[-2000:]}")
    return time.perf_counter() - start


def without_times(value: Any) -> Any:
    """Return a JSON value without the entries that contain times."""
    if isinstance(value, dict):
        return {key: without_times(entry) for key, entry in value.items() if key not in TIMES}
    return [without_times(entry) for entry in value] if isinstance(value, list) else value


def content(path: Path) -> str:
    """Return the digest of a file, without times if it is a table or a JSON record."""
    data = path.read_bytes()
    if path.suffix == ".json":
        data = json.dumps(without_times(json.loads(data))).encode()
    if path.name == "metrics.csv":
        rows = list(csv.DictReader(data.decode().splitlines()))
        data = json.dumps([without_times(row) for row in rows]).encode()
    return hashlib.sha256(data).hexdigest()


def contents(folder: Path) -> dict[str, str]:
    """Return the digests of all files of a folder by their paths."""
    return {
        str(path.relative_to(folder)): content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part in f"/{path.relative_to(folder)}" for part in IGNORED)
    }


def half_made(folder: Path, expected: dict[str, str]) -> Iterator[str]:
    """Yield the files with the name of a result and another content."""
    for name, digest in expected.items():
        path = folder / name
        if path.is_file() and path.name not in RESUMED:
            try:
                same = content(path) == digest
            except ValueError:  # not JSON
                same = False
            if not same:
                yield name


def new_folder(place: Path, name: str, args: Args) -> None:
    """Make a new folder in which a command can run."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "home").mkdir(parents=True)
    if name == "prepare":
        write_crystals(place / "crystals.csv", args.crystals)
    for command in COMMANDS[name][1]:
        run(command, place)


def copy(name: str, args: Args) -> Path:
    """Return a copy of a prepared folder. It is always in the same place, which files contain."""
    place = args.folder / "run"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(args.folder / f"{name}-prepared", place)
    return place


def undisturbed(name: str, args: Args) -> dict[str, Any]:
    """Return the duration and the files of an undisturbed run, which a second run must repeat."""
    new_folder(args.folder / f"{name}-prepared", name, args)
    runs = []
    for _ in range(2):
        place = copy(name, args)
        runs.append({"seconds": run(COMMANDS[name][0], place), "files": contents(place)})
    first, second = runs
    if first["files"] != second["files"]:
        different = sorted(set(first["files"].items()) ^ set(second["files"].items()))
        sys.exit(f"Two undisturbed runs of {name} differ: {different}")
    return first


def trial(name: str, args: Args, moment: float, expected: dict[str, str]) -> dict[str, Any]:
    """Kill a command after some seconds, run it again, and compare its files."""
    place = copy(name, args)
    run(COMMANDS[name][0], place, moment)
    early = list(half_made(place, expected))
    run(COMMANDS[name][0], place)
    found = contents(place)
    names = expected.keys() | found.keys()
    different = sorted(key for key in names if expected.get(key) != found.get(key))
    return {"moment": moment, "half made": early, "different": different}


def measure(args: Args) -> dict[str, Any]:
    """Run the trials that the folder lacks, and count those with differences."""
    args.folder = args.folder.absolute()
    result: dict[str, Any] = {}
    for name in args.commands:
        reference = common.stored(args.folder / f"{name}.json", partial(undisturbed, name, args))
        moments = random.Random(f"{args.seed} {name}")  # noqa: S311 - not for security
        done = []
        for number in range(args.trials):
            moment = moments.uniform(0, reference["seconds"])
            done.append(
                common.stored(
                    args.folder / f"{name}-{args.seed}-{number}.json",
                    partial(trial, name, args, moment, reference["files"]),
                )
            )
            print(f"{name} {number}: {done[-1]}", file=sys.stderr)
        result[name] = {
            "kills": len(done),
            "seconds of an undisturbed run": reference["seconds"],
            "files": len(reference["files"]),
            "kills with a half-made file": sum(bool(one["half made"]) for one in done),
            "kills with another result": sum(bool(one["different"]) for one in done),
        }
    return result


if __name__ == "__main__":
    common.run_script(Args, measure)
