"""Reward for assigning the true elements."""

from typing import Any

import numpy as np

from crystal_gym.episode import EpisodeTable
from crystal_gym.rewards.reward import Reward


class MatchReward(Reward):
    """1/n for each of the n sites that gets its true element.

    The undiscounted return is the accuracy of "Behavioral Cloning for Crystal Design".
    """

    def on_fill(self, table: EpisodeTable, crystal: Any, site: Any, element: Any) -> Any:
        """Return 1/n where the element is the true one, else 0.

        Args:
            table: The crystals.
            crystal: Rows of the table, an int or (B,).
            site: The filled sites, an int or (B,).
            element: Codes of the assigned elements, an int or (B,).

        Returns:
            The rewards, a float or float64 (B,).
        """
        # This order of the factors uses NumPy's fast path for scalars.
        return table.site_share[crystal] * (table.true_elements[crystal, site] == element)


def fraction_matched(table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """Return the fraction of sites with their true element, float64 (k,).

    Args:
        table: The crystals.
        crystal: Rows of the table, (k,).
        elements: Codes of the elements, (k, N), padded with -1.
    """
    equal = (table.true_elements.take(crystal, axis=0) == elements).sum(axis=1)
    padding = table.max_sites - table.n_sites[crystal]  # counted as equal
    return (equal - padding) / table.n_sites[crystal]
