"""Crystals filled per second by the evaluation, as a ratio to the plain way in the same run.

The plain way plays every episode in a single environment and asks the policy at each step. Both are
measured in turns, one after the other, so that a busy machine slows them alike. Run

    python benchmarks/evaluation.py runs/perov-5-egnn-seed-0
    python benchmarks/evaluation.py runs/perov-5-egnn-seed-0 --full

``--full`` evaluates a whole split instead (all figures of the policy, no floors), with its time.
"""

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import tyro

import crystal_gym  # noqa: F401 - registers the environment
from crystal_agents import evaluate, load_policy
from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_agents.rollouts.rollout import batch_by_size, roll_out
from crystal_gym.collections import load_collection
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.episode import EpisodeTable


@dataclass
class Args:
    """Speed of the evaluation."""

    policy: tyro.conf.Positional[Path]
    """Folder of a trained policy."""
    collection: str = "perov-5"
    """Name or path of the crystals."""
    split: str = "val"
    """Split to fill."""
    crystals: int = 60
    """Crystals in the sample."""
    turns: int = 3
    """How often both ways are measured."""
    full: bool = False
    """Evaluate the whole split."""


def plain(policy: SkeletonPolicy, collection: CrystalCollection, crystals: np.ndarray) -> float:
    """Crystals per second, each filled from all its sites, step by step."""
    env = gym.make("CrystalSkeleton-v0", collection=collection, split="all")
    start = time.perf_counter()
    for crystal in crystals.tolist():
        for start_site in range(int(collection.n_sites[crystal])):
            observation, _ = env.reset(options={"crystal": crystal, "start_site": start_site})
            terminated = False
            while not terminated:
                observation, _, terminated, _, _ = env.step(policy.act(observation))
    return len(crystals) / (time.perf_counter() - start)


def batched(policy: SkeletonPolicy, collection: CrystalCollection, crystals: np.ndarray) -> float:
    """Crystals per second of the evaluation's roll-out."""
    start = time.perf_counter()
    table = EpisodeTable(collection, policy.vocabulary)
    score = PolicyScorer(policy, table)
    for group in batch_by_size(table, crystals, n_start_sites=collection.max_sites):
        roll_out(table, group, score)
    return len(crystals) / (time.perf_counter() - start)


def main(args: Args) -> None:
    """Measure and print JSON."""
    policy = load_policy(args.policy)
    collection = load_collection(args.collection)
    result: dict[str, object] = {"threads": torch.get_num_threads(), "split": args.split}
    if args.full:
        start = time.perf_counter()
        report = evaluate({"policy": [policy]}, collection, args.split, baselines=False)
        result |= {"crystals": report.n_crystals, "seconds": time.perf_counter() - start}
    else:
        crystals = collection.in_split(args.split)[: args.crystals]
        turns = [
            (plain(policy, collection, crystals), batched(policy, collection, crystals))
            for _ in range(args.turns)
        ]
        result |= {
            "plain_crystals_per_second": statistics.median(p for p, _ in turns),
            "batched_crystals_per_second": statistics.median(b for _, b in turns),
            "ratio": statistics.median(b / p for p, b in turns),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
