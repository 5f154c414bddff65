"""Returns of finished crystals, and the evaluator of greedy returns.

The command line, the benchmark and the examples measure a policy in the same two steps::

    episodes = greedy_returns(PolicyScorer(policy, table), table, rows, reward)
    means, n_missing = nan_means(episodes.metrics)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from crystal_agents.rollouts.rollout import Scorer, batch_by_size, roll_out_all
from crystal_gym.episode import EpisodeTable, finished
from crystal_gym.masks import Mask, no_mask
from crystal_gym.rewards import Reward, finish
from crystal_gym.rewards.failure_handling import FAILURE_COUNT


@dataclass(frozen=True)
class GreedyEpisodes:
    """Finished crystals of greedy rollouts and the metrics of each episode.

    Attributes:
        crystal: Rows of the table, int64 (B,).
        elements: Codes of the elements, int32 (B, N), padded with -1.
        metrics: ``return`` in the units of the reward, the reward's components and ``match``, each
            float64 (B,). NaN marks a crystal for which a metric is undefined.
    """

    crystal: np.ndarray
    elements: np.ndarray
    metrics: dict[str, np.ndarray]


class MetricMeans(NamedTuple):
    """Means of metrics over the episodes in which they are defined.

    Attributes:
        means: Mean of each metric; NaN if it is undefined in every episode.
        n_missing: Number of episodes left out of each mean, for metrics with at least one.
    """

    means: dict[str, float]
    n_missing: dict[str, int]

    def as_row(self) -> dict[str, float]:
        """Return means and counts in one dictionary; the key of a count is ``NAME/n_missing``."""
        return {
            **self.means,
            **{f"{name}/n_missing": count for name, count in self.n_missing.items()},
        }


def greedy_returns(
    score: Scorer,
    table: EpisodeTable,
    rows: np.ndarray,
    reward: Reward,
    *,
    mask: Mask = no_mask,
    n_start_sites: int = 1,
    seed: int = 0,
) -> GreedyEpisodes:
    """Fill crystals greedily, in breadth-first order, and compute the return of each episode.

    Args:
        score: The rule to evaluate. The allowed element with the highest score is chosen.
        table: The crystals.
        rows: The crystals to fill, rows of the table, (S,).
        reward: The reward; it is prepared for the table first. Terms that depend on earlier
            episodes are left out.
        mask: The elements that may be chosen.
        n_start_sites: Start sites per crystal. Crystals with fewer sites start from each of them.
        seed: Seed of the start sites.

    Returns:
        One episode for each crystal and start site.

    Raises:
        CrystalGymError: If ``n_start_sites`` is below 1, ``seed`` is below 0, or the reward rejects
            the vocabulary.
    """
    reward = reward.without_memory()
    reward.prepare(table)
    batches = batch_by_size(table, rows, n_start_sites, seed)
    crystal, elements = roll_out_all(table, batches, score, mask)
    return GreedyEpisodes(crystal, elements, episode_returns(table, crystal, elements, reward))


def episode_returns(
    table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray, reward: Reward
) -> dict[str, np.ndarray]:
    """Compute the returns of finished crystals, independent of the order of their sites.

    Args:
        table: The crystals.
        crystal: Rows of the table, (B,).
        elements: Codes of the elements, (B, N), padded with -1.
        reward: The reward; terms that depend on earlier episodes are left out.

    Returns:
        ``return``, the reward's components and ``match``, each float64 (B,).
    """
    reward = reward.without_memory()
    state = finished(table, crystal, elements)
    last, components = finish(reward, table, state)
    total = np.array(last, np.float64)
    for site in range(table.max_sites):
        episodes = np.flatnonzero(table.n_sites[crystal] > site)
        before = state.select(episodes)
        before.focus = before.step = np.full(len(episodes), site)
        before.elements[:, site:] = np.minimum(before.elements[:, site:], 0)
        step = reward.on_fill(table, before, elements[episodes, site])
        total[episodes] = total[episodes] + step
    return {"return": total, **components}


def nan_means(metrics: Mapping[str, np.ndarray]) -> MetricMeans:
    """Average each metric over the episodes in which it is defined, and count the others.

    A reward's running count of failures is not a metric of an episode and is left out.

    Args:
        metrics: Values of each metric, float (B,); NaN marks an undefined value.
    """
    means, n_missing = {}, {}
    for name, values in metrics.items():
        if name.rpartition("/")[2] == FAILURE_COUNT:
            continue
        count = int(np.isnan(values).sum())
        means[name] = float(np.nanmean(values)) if count < len(values) else float("nan")
        if count:
            n_missing[name] = count
    return MetricMeans(means, n_missing)


def evenly_spaced(rows: np.ndarray, at_most: int) -> np.ndarray:
    """Select at most ``at_most`` of the rows, evenly spaced, the first and the last included."""
    return rows[np.linspace(0, len(rows) - 1, min(at_most, len(rows))).astype(int)]
