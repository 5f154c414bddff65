"""Seconds of new processes: import and first environment, and an evaluation with ``egnn``.

The import and the first environment are compared with CartPole, the evaluation with one that first
imports PyTorch Geometric, which only DimeNet++ needs.

    python benchmarks/startup.py
"""

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import common

# Prints the seconds of the import and of the first environment.
SCRIPT = """
import time
start = time.perf_counter()
import {package}
imported = time.perf_counter()
import gymnasium
gymnasium.make("{environment}")
print(imported - start, time.perf_counter() - imported)
"""
SUBJECTS = {
    "crystal_gym": ("crystal_gym", "crystal_gym:CrystalSkeleton-v0"),
    "CartPole": ("gymnasium", "CartPole-v1"),
}
# The command of the evaluation; its collection is computed, so that no data file is needed.
EVALUATE = """
{first}
from crystal_agents.cli.main import main
main(["evaluate", "goldschmidt/egnn", "--split", "val", "--start-sites", "1", "--no-baselines"])
"""
EAGER, LAZY = "PyTorch Geometric imported", "not imported"
EVALUATIONS = {
    EAGER: EVALUATE.format(first="import torch_geometric"),
    LAZY: EVALUATE.format(first=""),
}


@dataclass
class Args(common.Args):
    """Seconds of new processes, compared with CartPole and with an eager import."""

    turns: int = 5
    """New processes for each environment and evaluation."""


def run(script: str) -> str:
    """Run a script in a new process and return its output."""
    done = subprocess.run(  # noqa: S603 - the scripts above
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout


def start(package: str, environment: str) -> tuple[float, float]:
    """Return the seconds of the import and of the first environment in a new process."""
    imported, created = map(
        float, run(SCRIPT.format(package=package, environment=environment)).split()
    )
    return imported, created


def measure(args: Args) -> dict[str, Any]:
    """Start new processes in turns."""
    imports: common.Rates = {name: [] for name in SUBJECTS}
    first: common.Rates = {name: [] for name in SUBJECTS}
    for _ in range(args.turns):
        for name, subject in SUBJECTS.items():
            imported, created = start(*subject)
            imports[name].append(imported)
            first[name].append(created)
    # The first evaluation reads all files once, so that they are in memory in every turn.
    run(EVALUATIONS[EAGER])
    evaluations = common.in_turns(
        {
            name: lambda script=script: common.seconds(lambda: run(script))
            for name, script in EVALUATIONS.items()
        },
        args.turns,
    )
    sections = (
        ("import", imports, "CartPole"),
        ("first environment", first, "CartPole"),
        ("evaluate with egnn", evaluations, EAGER),
    )
    return {
        f"{title}, {key}": value
        for title, values, reference in sections
        for key, value in common.summarize(values, "seconds", reference).items()
    }


if __name__ == "__main__":
    common.run_script(Args, measure)
