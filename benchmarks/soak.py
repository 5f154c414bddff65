"""Memory of the environments over long use.

Random actions fill crystals in a vector environment; a single environment is reset and rendered;
environments are made and closed. The resident memory is read at regular intervals. After the first
fifth, which fills caches, a line is fitted: its slope is the growth.

    OMP_NUM_THREADS=1 python benchmarks/soak.py --json soak.json
    OMP_NUM_THREADS=1 python benchmarks/soak.py --steps 1000000 --resets 1000 --environments 50
"""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import common
import gymnasium as gym
import numpy as np
import psutil

import crystal_gym  # noqa: F401 - registers the environments

ID = "CrystalSkeleton-v0"
READINGS = 50
SETTLED = READINGS // 5


@dataclass
class Args(common.Args):
    """Memory of the environments over long use."""

    collection: str = "goldschmidt"
    """Name or path of the collection."""
    steps: int = 100_000_000
    """Steps of the vector environment, all environments together."""
    num_envs: int = 1024
    """Environments of the vector environment."""
    resets: int = 100_000
    """Resets of the single environment, each followed by a step and a picture as text."""
    pictures: int = 1_000
    """Resets of the single environment, each followed by a step and a picture in pixels."""
    environments: int = 1_000
    """Environments that are made, reset and closed."""


def vector_steps(args: Args) -> Iterator[int]:
    """Step a vector environment with random valid actions and yield the number of steps."""
    envs = gym.make_vec(ID, num_envs=args.num_envs, collection=args.collection)
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    n_elements = int(envs.single_action_space.n)
    for done in range(0, args.steps, args.num_envs):
        envs.step(rng.integers(0, n_elements, args.num_envs))
        yield done
    envs.close()


def renderings(args: Args, mode: str, count: int) -> Iterator[int]:
    """Reset an environment, step once and render, and yield the number of resets."""
    env = gym.make(ID, collection=args.collection, render_mode=mode)
    for done in range(count):
        env.reset(seed=done)
        env.step(0)
        env.render()
        yield done
    env.close()


def constructions(args: Args) -> Iterator[int]:
    """Make, reset and close environments, and yield their number."""
    for done in range(args.environments):
        env = gym.make(ID, collection=args.collection)
        env.reset(seed=done)
        env.close()
        yield done


def memory_of(work: Callable[[], Iterator[int]], count: int) -> dict[str, Any]:
    """Do some work and return its duration and the growth of the resident memory."""
    process = psutil.Process()
    readings: list[tuple[int, float]] = []
    start = time.perf_counter()
    for done in work():
        if done >= len(readings) * count / READINGS:
            gc.collect()
            readings.append((done, process.memory_info().rss / 1e6))
    at, used = np.array(readings[SETTLED:]).T
    slope = float(np.polyfit(at, used, 1)[0])
    return {
        "count": count,
        "seconds": time.perf_counter() - start,
        "first, MB": float(used[0]),
        "last, MB": float(used[-1]),
        "growth, MB per million": slope * 1e6,
        "growth over the whole, MB": slope * count,
    }


def measure(args: Args) -> dict[str, Any]:
    """Measure each kind of use."""
    return {
        "steps of a vector environment": memory_of(lambda: vector_steps(args), args.steps),
        "resets with text": memory_of(lambda: renderings(args, "ansi", args.resets), args.resets),
        "resets with pictures": memory_of(
            lambda: renderings(args, "rgb_array", args.pictures), args.pictures
        ),
        "environments": memory_of(lambda: constructions(args), args.environments),
    }


if __name__ == "__main__":
    common.run_script(Args, measure)
