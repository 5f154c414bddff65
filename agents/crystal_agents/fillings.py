"""What finished fillings earn."""

from collections.abc import Iterable, Mapping

import numpy as np

from crystal_agents.rollouts import Group, Scorer, roll_out
from crystal_gym.episode import EpisodeTable
from crystal_gym.masks import Mask, every_element
from crystal_gym.rewards import Reward, finish
from crystal_gym.rewards.failures import COUNT


def figures_of(
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


def means_of(figures: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Mean of each figure over the crystals that have it, NaN left out; NaN where none has.

    The running count of a reward's failures is no figure of a crystal and is left out.
    """
    return {
        name: float(np.nanmean(values)) if (~np.isnan(values)).any() else float("nan")
        for name, values in figures.items()
        if name.rpartition("/")[2] != COUNT
    }


def spread_over(rows: np.ndarray, at_most: int) -> np.ndarray:
    """At most so many of the rows, spread evenly."""
    return rows[np.linspace(0, len(rows) - 1, min(at_most, len(rows))).astype(int)]


def fill_groups(
    table: EpisodeTable, groups: Iterable[Group], score: Scorer, mask: Mask = every_element
) -> tuple[np.ndarray, np.ndarray]:
    """Fill crystals, each from all sources of its group.

    Returns:
        Rows of the table, (B,), and codes of the finished crystals, int32 (B, N).
    """
    filled = [roll_out(table, group, score, mask=mask) for group in groups]
    rows = [np.tile(one.group.crystals, len(one.group.sources)) for one in filled]
    elements = [one.elements.reshape(-1, one.elements.shape[-1]) for one in filled]
    return np.concatenate(rows), np.concatenate(elements)
