"""Steps per second of the environments, as ratios to Gymnasium's CartPole in the same run.

python benchmarks/environment.py --collection perov-5 --json environment.json
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import common
import gymnasium as gym
from gymnasium.utils.performance import benchmark_step, benchmark_vector_step

import crystal_gym
from crystal_gym import FlatObservation, FlatVectorObservation

MASKED = "vector, charge-neutral"
FLAT, FLAT_PAIRS = "vector, flat", "vector, flat with pairs"
# Way, reference, and the lowest ratio that the project accepts.
REQUIREMENTS = (
    ("single", "CartPole", 0.8),
    ("vector", "CartPole vector", 0.25),
    ("vector", "single", 20.0),
    (MASKED, "vector", 0.5),
    (FLAT, "vector", 0.4),
    (FLAT_PAIRS, "vector", 0.4),
    ("vector, flat, same-step", "vector, same-step", 0.4),
)


@dataclass
class Args(common.Args):
    """Steps per second of the environments, compared with Gymnasium's CartPole."""

    collection: str = "goldschmidt"
    """Name or path of the collection."""
    num_envs: int = 1024
    """Environments in each vector environment."""
    turns: int = 15
    """Measurements of each environment."""
    seconds: float = 0.3
    """Duration of one measurement."""


def measure(args: Args) -> dict[str, Any]:
    """Measure all environments in turns."""
    collection = crystal_gym.load_collection(args.collection)
    skeletons = partial(gym.make, "CrystalSkeleton-v0", collection=collection)
    vectors = partial(gym.make_vec, "CrystalSkeleton-v0", args.num_envs, collection=collection)
    singles = {
        "CartPole": gym.make("CartPole-v1"),
        "single": skeletons(),
        "single, flat": FlatObservation(skeletons()),
    }
    vectorized = {
        "CartPole vector": gym.make_vec("CartPole-v1", args.num_envs),
        "vector": vectors(),
        "vector, same-step": vectors(autoreset_mode="SameStep"),
        MASKED: vectors(mask="charge-neutral"),
        FLAT: FlatVectorObservation(vectors()),
        FLAT_PAIRS: FlatVectorObservation(vectors(), pairs=True),
        "vector, flat, same-step": FlatVectorObservation(vectors(autoreset_mode="SameStep")),
    }
    rates = common.in_turns(
        {
            **{
                name: partial(benchmark_step, env, args.seconds, seed=0)
                for name, env in singles.items()
            },
            **{
                name: partial(benchmark_vector_step, env, args.seconds, seed=0)
                for name, env in vectorized.items()
            },
        },
        args.turns,
    )
    result = common.summarize(rates, "steps per second", "CartPole")
    required = {
        f"{way} / {reference}, at least {least:g}": common.median_ratio(rates, way, reference)
        for way, reference, least in REQUIREMENTS
    }
    return {**result, "required ratio": required}


if __name__ == "__main__":
    common.run_script(Args, measure)
