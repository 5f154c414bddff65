"""Seconds until the environment is there, in fresh processes, beside Gymnasium's own CartPole.

Each turn starts one process for either; the table shows medians over the turns. Run

    python benchmarks/startup.py
"""

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass

import tyro

# Import, then the first environment; prints both durations.
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


@dataclass
class Args:
    """Seconds until the environment is there."""

    turns: int = 5
    """How often both are started."""


def main(args: Args) -> None:
    """Measure and print JSON."""
    seconds: dict[str, list[list[float]]] = {name: [] for name in SUBJECTS}
    for _ in range(args.turns):
        for name, (package, environment) in SUBJECTS.items():
            script = SCRIPT.format(package=package, environment=environment)
            done = subprocess.run(  # noqa: S603 - our own script
                [sys.executable, "-c", script], capture_output=True, text=True, check=True
            )
            seconds[name].append([float(part) for part in done.stdout.split()])
    medians = {
        name: {
            "import": statistics.median(imported for imported, _ in turns),
            "first make": statistics.median(made for _, made in turns),
        }
        for name, turns in seconds.items()
    }
    print(json.dumps(medians, indent=2))


if __name__ == "__main__":
    main(tyro.cli(Args))
