"""Crystals per second of the evaluation, as ratios to slower ways in the same run.

A plain loop plays every episode in a single environment and calls the policy at each step.
Roll-outs, from one and from five start sites, are compared with roll-outs that encode the geometry
of their skeletons at every step; both have the same fillings.

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py runs/perov-5-egnn-seed-0
    OMP_NUM_THREADS=1 python benchmarks/evaluation.py runs/perov-5-egnn-seed-0 --full

``--full`` evaluates a whole split instead: all metrics of the policy, without baselines. The
symmetries of the skeletons are computed at every evaluation or read from the cache. Roll-outs and
whole splits are measured per CPU second, which depends little on other processes of the machine.
"""

import time
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any
from unittest import mock

import common
import gymnasium as gym
import numpy as np
import tyro
from every_step import EveryStepScorer, require_same_fillings

import crystal_gym  # noqa: F401 - registers the environment
from crystal_agents import evaluate, load_policy
from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_agents.rollouts.rollout import batch_by_size, roll_out
from crystal_gym.collections import load_collection, symmetries
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
    """Crystals that the plain loop fills."""
    rollout_crystals: int = 512
    """Crystals of the roll-outs from one and five start sites."""
    turns: int = 5
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


def measure_geometry(
    args: Args, policy: SkeletonPolicy, collection: CrystalCollection, start_sites: int
) -> dict[str, Any]:
    """Compare roll-outs that encode the geometry once and at every step."""
    crystals = collection.in_split(args.split)[: args.rollout_crystals]
    table = EpisodeTable(collection, policy.vocabulary)
    batches = list(batch_by_size(table, crystals, start_sites))

    def fill(scorer: type[PolicyScorer]) -> np.ndarray:
        score = scorer(policy, table)
        parts = [roll_out(table, batch, score).elements for batch in batches]
        return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])

    ways = {"geometry at every step": EveryStepScorer, "geometry once": PolicyScorer}
    require_same_fillings(*map(fill, ways.values()))

    def rate(scorer: type[PolicyScorer]) -> float:
        start = time.process_time()
        fill(scorer)
        return len(crystals) / (time.process_time() - start)

    rates = common.in_turns(
        {name: partial(rate, scorer) for name, scorer in ways.items()}, args.turns
    )
    summary = common.summarize(rates, "crystals per CPU second", "geometry at every step")
    return {f"{start_sites} start sites, {key}": value for key, value in summary.items()}


def measure_full(
    args: Args, policy: SkeletonPolicy, collection: CrystalCollection
) -> dict[str, Any]:
    """Compare evaluations of a whole split that compute the symmetries and read them."""
    crystals = collection.in_split(args.split)
    # Fill the cache and import all modules.
    symmetries.skeleton_symmetries(collection, crystals)
    few = collection.take(crystals[:10])
    evaluate({"policy": [policy]}, few, args.split, baselines=False, progress=False)

    def run() -> float:
        start = time.process_time()
        evaluate({"policy": [policy]}, collection, args.split, baselines=False, progress=False)
        return len(crystals) / (time.process_time() - start)

    def run_uncached() -> float:
        with mock.patch.object(symmetries, "UNCACHED_LIMIT", len(crystals)):
            return run()

    rates = common.in_turns(
        {"symmetries computed": run_uncached, "symmetries cached": run}, args.turns
    )
    return {
        "sample": {"crystals": len(crystals)},
        "CPU seconds": {name: len(crystals) / median(values) for name, values in rates.items()},
        **common.summarize(rates, "crystals per CPU second", "symmetries computed"),
    }


def measure(args: Args) -> dict[str, Any]:
    """Measure all ways on samples, or the evaluation of a whole split."""
    policy = load_policy(args.policy)
    collection = load_collection(args.collection)
    if args.full:
        return measure_full(args, policy, collection)
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
        **measure_geometry(args, policy, collection, 1),
        **measure_geometry(args, policy, collection, 5),
    }


if __name__ == "__main__":
    common.run_script(Args, measure)
