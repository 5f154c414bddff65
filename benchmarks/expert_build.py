"""Crystals per second of the expert data set's build, as a ratio to the plain way in the same run.

The plain way plays every episode in the environment and hands the buffers to Minari's own writer.
Both are measured in turns, one after the other, so that a busy machine slows them alike. Run

    python benchmarks/expert_build.py --collection perov-5
    python benchmarks/expert_build.py --collection perov-5 --full

``--full`` builds a whole split instead and tells time, size and memory, also of reading it back.
"""

import json
import os
import resource
import statistics
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import tyro
from minari.data_collector import EpisodeBuffer
from rich.console import Console
from rich.table import Table

import crystal_gym
from crystal_datasets import build_dataset, choose_start_sites, load_transitions
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.utils.settings import CACHE_VARIABLE


@dataclass
class Args:
    """Speed of the expert data set's build."""

    collection: str = "goldschmidt"
    """Name or path of the crystals."""
    split: str = "train"
    """Split to build."""
    crystals: int = 200
    """Crystals in the sample."""
    turns: int = 3
    """How often both ways are measured."""
    full: bool = False
    """Build the whole split and read it back."""
    json: Path | None = None
    """Also write the result to this file."""


def play(env: gym.Env, crystal: str, start_site: int) -> EpisodeBuffer:
    """One expert episode, step by step."""
    observation, _ = env.reset(options={"crystal": crystal, "start_site": start_site})
    observations, actions, rewards, terminations = [observation], [], [], []
    done = False
    while not done:
        action = env.unwrapped.expert_action()  # type: ignore[attr-defined] - ours has it
        observation, reward, done, _, _ = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
        terminations.append(done)
    return EpisodeBuffer(
        observations={key: [seen[key] for seen in observations] for key in observation},
        actions=actions,
        rewards=rewards,
        terminations=terminations,
        truncations=[False] * len(actions),
        infos={},
    )


def build_plainly(collection: CrystalCollection, dataset_id: str) -> None:
    """The same episodes through the environment and the official writer."""
    env = gym.make("CrystalSkeleton-v0", collection=collection, split="all")
    start_sites = choose_start_sites(collection.n_sites)
    buffers = [
        play(env, str(collection.ids[row]), int(start_site))
        for row, column in np.argwhere(start_sites >= 0)
        for start_site in [start_sites[row, column]]
    ]
    minari.create_dataset_from_buffers(
        dataset_id,
        buffers,
        observation_space=env.observation_space,
        action_space=env.action_space,
        data_format="hdf5",
    )


def compare(collection: CrystalCollection, turns: int) -> dict[str, Any]:
    """Both ways on a sample."""
    rates: dict[str, list[float]] = {"bulk": [], "plain": []}
    for turn in range(turns):
        start = time.perf_counter()
        build_dataset(collection, "all", overwrite=True, progress=False)
        rates["bulk"].append(len(collection) / (time.perf_counter() - start))
        start = time.perf_counter()
        build_plainly(collection, f"crystal-gym/plain-v{turn}")
        rates["plain"].append(len(collection) / (time.perf_counter() - start))
    pairs = zip(rates["bulk"], rates["plain"], strict=True)
    return {
        "crystals": len(collection),
        "crystals_per_second": {name: statistics.median(turns) for name, turns in rates.items()},
        "ratio": statistics.median(bulk / plain for bulk, plain in pairs),
    }


def build_in_full(collection: str, split: str, cache: Path) -> dict[str, Any]:
    """A whole split: build, first reading, reading from the cache."""
    seconds = {}
    start = time.perf_counter()
    name = build_dataset(collection, split)
    seconds["build"] = time.perf_counter() - start
    metadata = minari.load_dataset(name).storage.metadata
    os.environ[CACHE_VARIABLE] = str(cache)  # the transitions of a passing data set
    for reading in ("first reading", "cached reading"):
        start = time.perf_counter()
        load_transitions(name)
        seconds[reading] = time.perf_counter() - start
    return {
        "dataset": name,
        "episodes": metadata["total_episodes"],
        "steps": metadata["total_steps"],
        "crystals_per_second": metadata["crystal_gym"]["crystals"] / seconds["build"],
        "seconds": seconds,
        "size_gb": metadata["dataset_size"] / 1000,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def main(args: Args) -> None:
    """Measure, print a table and JSON."""
    collection = crystal_gym.load_collection(args.collection)  # prepared before anything is timed
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the official writer asks for an environment
        os.environ["MINARI_DATASETS_PATH"] = folder
        if args.full:
            result = build_in_full(args.collection, args.split, Path(folder) / "cache")
        else:
            sample = collection.take(collection.in_split(args.split)[: args.crystals])
            result = compare(sample, args.turns)
    result = {"collection": args.collection, "split": args.split, **result}
    table = Table("", "", title="Expert data set", show_header=False)
    for key, value in result.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            shown = f"{number:,.2f}" if isinstance(number, float) else f"{number}"
            table.add_row(f"{key} {part}".strip(), shown)
    Console(stderr=True).print(table)
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args))
