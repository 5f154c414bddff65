"""Reward for putting back the elements of the source crystal."""

from typing import Any

import numpy as np

from crystal_gym.episode import EpisodeTable
from crystal_gym.rewards.reward import Reward


class MatchReward(Reward):
    """1/n for each of the n sites filled as in the source crystal.

    The undiscounted return is the accuracy of "Behavioral Cloning for Crystal Design".
    """

    def on_fill(self, table: EpisodeTable, crystal: Any, site: Any, element: Any) -> Any:
        """1/n where the element is the true one, else 0."""
        # In this order NumPy's fast path for scalars is taken.
        return table.site_share[crystal] * (table.true_elements[crystal, site] == element)


def fraction_matched(table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """Fraction of the sites that carry their true element, float64 (k,).

    Args:
        table: the crystals.
        crystal: rows of the table, (k,).
        elements: codes, (k, N), padded with -1.
    """
    equal = (table.true_elements.take(crystal, axis=0) == elements).sum(axis=1)
    padding = table.max_sites - table.n_sites[crystal]  # equal on both sides
    return (equal - padding) / table.n_sites[crystal]
