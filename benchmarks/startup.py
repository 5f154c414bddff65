"""Seconds of the import and the first environment in new processes, as ratios to CartPole.

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


@dataclass
class Args(common.Args):
    """Seconds of the import and the first environment, compared with Gymnasium's CartPole."""

    turns: int = 5
    """New processes for each environment."""


def start(package: str, environment: str) -> tuple[float, float]:
    """Return the seconds of the import and of the first environment in a new process."""
    script = SCRIPT.format(package=package, environment=environment)
    done = subprocess.run(  # noqa: S603 - the script above
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    imported, created = map(float, done.stdout.split())
    return imported, created


def measure(args: Args) -> dict[str, Any]:
    """Start new processes for both environments in turns."""
    imports: common.Rates = {name: [] for name in SUBJECTS}
    first: common.Rates = {name: [] for name in SUBJECTS}
    for _ in range(args.turns):
        for name, subject in SUBJECTS.items():
            imported, created = start(*subject)
            imports[name].append(imported)
            first[name].append(created)
    return {
        f"{title}, {key}": value
        for title, values in (("import", imports), ("first environment", first))
        for key, value in common.summarize(values, "seconds", "CartPole").items()
    }


if __name__ == "__main__":
    common.run_script(Args, measure)
