"""Crystals per second of the evaluation, as a ratio to a plain loop in the same run.

The plain loop plays every episode in a single environment and calls the policy at each step.

    python benchmarks/evaluation.py runs/perov-5-egnn-seed-0
    python benchmarks/evaluation.py runs/perov-5-egnn-seed-0 --full

``--full`` evaluates a whole split instead: all metrics of the policy, without baselines.
"""

from dataclasses import dataclass
from typing import Any

import common
import gymnasium as gym
import numpy as np
import tyro

import crystal_gym  # noqa: F401 - registers the environment
from crystal_agents import evaluate, load_policy
from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_agents.rollouts.rollout import batch_by_size, roll_out
from crystal_gym.collections import load_collection
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.episode import EpisodeTable


@dataclass
class Args(common.Args):
    """Speed of the evaluation, compared with a loop over single steps."""

    policy: tyro.conf.Positional[str] = "perov-5/egnn"
    """Name of a pretrained policy, or the folder of a trained one."""
    collection: str = "perov-5"
    """Name or path of the collection."""
    split: str = "val"
    """Split to fill."""
    crystals: int = 60
    """Crystals in the sample."""
    turns: int = 3
    """Measurements of each way."""
    full: bool = False
    """Evaluate the whole split instead."""


def fill_step_by_step(
    policy: SkeletonPolicy, collection: CrystalCollection, crystals: np.ndarray
) -> None:
    """Fill each crystal from all its start sites, one step at a time."""
    env = gym.make("CrystalSkeleton-v0", collection=collection, split="all")
    for crystal in crystals.tolist():
        for start_site in range(int(collection.n_sites[crystal])):
            observation, _ = env.reset(options={"crystal": crystal, "start_site": start_site})
            terminated = False
            while not terminated:
                observation, _, terminated, _, _ = env.step(policy.act(observation))


def fill_batched(
    policy: SkeletonPolicy, collection: CrystalCollection, crystals: np.ndarray
) -> None:
    """Fill each crystal from all its start sites by the rollout of the evaluation."""
    table = EpisodeTable(collection, policy.vocabulary)
    score = PolicyScorer(policy, table)
    for batch in batch_by_size(table, crystals, n_start_sites=collection.max_sites):
        roll_out(table, batch, score)


def measure(args: Args) -> dict[str, Any]:
    """Measure both ways on a sample, or the evaluation of a whole split."""
    policy = load_policy(args.policy)
    collection = load_collection(args.collection)
    if args.full:
        crystals = collection.in_split(args.split)
        duration = common.seconds(
            lambda: evaluate({"policy": [policy]}, collection, args.split, baselines=False)
        )
        return {"sample": {"crystals": len(crystals)}, "seconds": duration}
    crystals = collection.in_split(args.split)[: args.crystals]

    def rate(fill: Any) -> float:
        return len(crystals) / common.seconds(lambda: fill(policy, collection, crystals))

    rates = common.in_turns(
        {"plain loop": lambda: rate(fill_step_by_step), "batched": lambda: rate(fill_batched)},
        args.turns,
    )
    return {
        "sample": {"crystals": len(crystals)},
        **common.summarize(rates, "crystals per second", "plain loop"),
    }


if __name__ == "__main__":
    common.run_script(Args, measure)
