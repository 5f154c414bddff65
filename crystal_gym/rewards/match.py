"""Reward for assigning the true elements."""

from typing import Any

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.rewards.reward import Reward


class MatchReward(Reward):
    """1/n for each of the n sites to fill that gets its true element.

    The undiscounted return is the accuracy of "Behavioral Cloning for Crystal Design". Kept sites,
    which have their elements from the start, do not count.
    """

    def on_fill(self, table: EpisodeTable, state: EpisodeState, element: Any) -> Any:
        """Return 1/n where the element is the true one, else 0.

        Args:
            table: The crystals.
            state: One episode or a batch of B, before the site in focus is filled.
            element: Codes of the assigned elements, an int or (B,).

        Returns:
            The rewards, a float or float64 (B,).
        """
        matched = table.true_elements[state.crystal, state.focus] == element
        share = 1 / (state.n_sites - state.n_kept)
        # A single episode has Python numbers, which a condition handles several times faster.
        return matched * share if state.rows else share if matched else 0.0


def fraction_matched(table: EpisodeTable, state: EpisodeState) -> np.ndarray:
    """Return the fraction of the sites that the agent filled with their true element, float64 (k,).

    Args:
        table: The crystals.
        state: A batch of k finished episodes.
    """
    equal = (table.true_elements.take(state.crystal, axis=0) == state.elements).sum(axis=1)
    # Padding and kept sites are equal in both.
    not_filled = table.max_sites - state.n_sites + state.n_kept
    return (equal - not_filled) / (state.n_sites - state.n_kept)
