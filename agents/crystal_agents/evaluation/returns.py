"""What finished fillings earn."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_agents.rollouts.rollout import batch_by_size, roll_out_all
from crystal_gym.episode import EpisodeTable
from crystal_gym.rewards import Reward, finish
from crystal_gym.rewards.failure_handling import COUNT

if TYPE_CHECKING:
    from crystal_gym.collections.collection import CrystalCollection
    from crystal_gym.rewards import Reward

from crystal_gym.envs.generator import InstanceGenerator
from crystal_gym.masks import resolve_mask
from crystal_gym.rewards import Reward, resolve_reward


def episode_returns(
    table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray, reward: Reward
) -> dict[str, np.ndarray]:
    """Returns of finished crystals, in whatever order they were filled, and their components.

    Args:
        table: the crystals.
        crystal: rows of the table, (B,).
        elements: codes, (B, N), padded with -1.
        reward: what is earned.

    Returns:
        ``return`` and the components of the reward, ``match`` among them, each float64 (B,).
    """
    last, components = finish(reward, table, crystal, elements)
    total = np.array(last, np.float64)
    for site in range(table.max_sites):
        there = np.flatnonzero(table.n_sites[crystal] > site)
        where = np.full(len(there), site)
        paid = reward.on_fill(table, crystal[there], where, elements[there, site])
        total[there] = total[there] + paid
    return {"return": total, **components}


def nan_means(metrics: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Mean of each figure over the crystals that have it, NaN left out; NaN where none has.

    The running count of a reward's failures is no figure of a crystal and is left out.
    """
    return {
        name: float(np.nanmean(values)) if (~np.isnan(values)).any() else float("nan")
        for name, values in metrics.items()
        if name.rpartition("/")[2] != COUNT
    }


def evenly_spaced(rows: np.ndarray, at_most: int) -> np.ndarray:
    """At most so many of the rows, spread evenly."""
    return rows[np.linspace(0, len(rows) - 1, min(at_most, len(rows))).astype(int)]


def greedy_mean_return(
    policy: SkeletonPolicy,
    collection: "CrystalCollection",
    split: str,
    reward: "Reward",
    *,
    n_start_sites: int = 5,
    seed: int = 0,
) -> float:
    """Mean return of a policy's most probable actions over crystals and sources; NaN left out.

    TrainingConfig:
        policy: of the collection's vocabulary.
        collection: the crystals.
        split: which of them.
        reward: what is earned.
        n_start_sites: start sites per crystal.
        seed: of the sampled sources.
    """
    from crystal_gym.episode import EpisodeTable

    table = EpisodeTable(collection, policy.vocabulary)
    groups = batch_by_size(table, collection.in_split(split), n_start_sites, seed)
    crystal, elements = roll_out_all(table, groups, PolicyScorer(policy, table))
    return float(np.nanmean(episode_returns(table, crystal, elements, reward)["return"]))


def greedy_metrics(
    policy: SkeletonPolicy,
    generator: InstanceGenerator,
    *,
    reward: "str | Reward" = "match",
    mask: str = "none",
    crystals: int = 500,
) -> dict[str, float]:
    """Mean return and components where a policy always takes its most probable element.

    Args:
        policy: who fills.
        generator: the crystals of its split, each once, breadth first from one site.
        reward: of the environment.
        mask: of the environment; what it forbids is not taken.
        crystals: at most so many, spread evenly over the split.
    """
    table, rows = generator.table, generator.rows
    rows = evenly_spaced(rows, crystals)
    earned = resolve_reward(reward)
    earned.prepare(table)
    score = PolicyScorer(policy, table)
    crystal, elements = roll_out_all(
        table, batch_by_size(table, rows, 1), score, resolve_mask(mask)
    )
    return nan_means(episode_returns(table, crystal, elements, earned))
