"""Crystals per second of building an expert dataset, as a ratio to a plain loop in the same run.

The plain loop plays every episode in the environment and passes the buffers to Minari's own writer.

    python benchmarks/expert_build.py --collection perov-5
    python benchmarks/expert_build.py --collection perov-5 --full

``--full`` builds a whole split instead, reads it back, and reports time, size and memory.
"""

import os
import resource
import tempfile
import time
import warnings
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import common
import gymnasium as gym
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer

import crystal_gym
from crystal_datasets import build_dataset, choose_start_sites, load_transitions
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.utils.settings import CACHE_VARIABLE


@dataclass
class Args(common.Args):
    """Speed of building an expert dataset, compared with Minari's own writer."""

    collection: str = "goldschmidt"
    """Name or path of the collection."""
    split: str = "train"
    """Split to build."""
    crystals: int = 200
    """Crystals in the sample."""
    turns: int = 3
    """Measurements of each way."""
    full: bool = False
    """Build the whole split instead, and read it back."""


def play(env: gym.Env, crystal: str, start_site: int) -> EpisodeBuffer:
    """Play one expert episode step by step."""
    observation, _ = env.reset(options={"crystal": crystal, "start_site": start_site})
    observations, actions, rewards, terminations = [observation], [], [], []
    done = False
    while not done:
        action = env.unwrapped.expert_action()  # type: ignore[attr-defined] - this package's method
        observation, reward, done, _, _ = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
        terminations.append(done)
    return EpisodeBuffer(
        observations={key: [values[key] for values in observations] for key in observation},
        actions=actions,
        rewards=rewards,
        terminations=terminations,
        truncations=[False] * len(actions),
        infos={},
    )


def build_plainly(collection: CrystalCollection, dataset_id: str) -> None:
    """Build the same episodes with the environment and Minari's own writer."""
    env = gym.make("CrystalSkeleton-v0", collection=collection, split="all")
    start_sites = choose_start_sites(collection.n_sites)
    buffers = [
        play(env, str(collection.ids[row]), int(start_sites[row, column]))
        for row, column in np.argwhere(start_sites >= 0)
    ]
    with warnings.catch_warnings():
        # Without the environment's specification Minari warns that it cannot be recovered.
        warnings.filterwarnings("ignore", category=UserWarning, module="minari")
        minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            observation_space=env.observation_space,
            action_space=env.action_space,
            data_format="hdf5",
        )


def compare(collection: CrystalCollection, turns: int) -> dict[str, Any]:
    """Measure both ways on a sample of crystals."""
    numbers = count()
    ways = {
        "bulk": lambda: build_dataset(collection, "all", overwrite=True, progress=False),
        "plain loop": lambda: build_plainly(collection, f"crystal-gym/plain-v{next(numbers)}"),
    }
    rates = common.in_turns(
        {
            name: partial(lambda work: len(collection) / common.seconds(work), work)
            for name, work in ways.items()
        },
        turns,
    )
    return {
        "sample": {"crystals": len(collection)},
        **common.summarize(rates, "crystals per second", "plain loop"),
    }


def build_in_full(collection: str, split: str, cache: Path) -> dict[str, Any]:
    """Build a whole split, read it back, and read it again from the cache."""
    names = []
    processor = time.process_time()
    built = common.seconds(lambda: names.append(build_dataset(collection, split)))
    processor = time.process_time() - processor
    metadata = minari.load_dataset(names[0]).storage.metadata
    # The transitions of a temporary dataset do not belong in the user's cache.
    os.environ[CACHE_VARIABLE] = str(cache)
    first = common.seconds(lambda: load_transitions(names[0]))
    cached = common.seconds(lambda: load_transitions(names[0]))
    return {
        "sample": {
            "dataset": names[0],
            "episodes": metadata["total_episodes"],
            "steps": metadata["total_steps"],
        },
        "crystals per second": metadata["crystal_gym"]["crystals"] / built,
        "processor seconds of the build": processor,
        "seconds": {"build": built, "first read": first, "cached read": cached},
        "ratio to first read": {"build": built / first, "cached read": cached / first},
        "size, GB": metadata["dataset_size"] / 1000,
        "peak memory, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def measure(args: Args) -> dict[str, Any]:
    """Measure a sample, or a whole split."""
    # Prepare the collection before anything is timed.
    collection = crystal_gym.load_collection(args.collection)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = folder
        if args.full:
            return build_in_full(args.collection, args.split, Path(folder) / "cache")
        sample = collection.take(collection.in_split(args.split)[: args.crystals])
        return compare(sample, args.turns)


if __name__ == "__main__":
    common.run_script(Args, measure)
