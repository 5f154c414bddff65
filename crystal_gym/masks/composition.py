"""The mask ``composition``: the elements of the crystal that are still to be placed."""

import functools

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.masks.mask import Mask


def composition(table: EpisodeTable, state: EpisodeState) -> np.ndarray:
    """Allow the elements that the crystal contains more often than the filled sites do.

    An agent that follows the mask gives the crystal its true composition, so only the assignment of
    elements to sites remains, as in structure prediction from templates. After an element that
    the composition does not contain, the mask still allows the elements that are missing. It allows
    all elements when the crystal is full.

    Args:
        table: The crystals, whose true elements define the compositions.
        state: One episode or a batch of B.

    Returns:
        bool (V,) or (B, V).

    Raises:
        CrystalGymError: If the table was made from a skeleton, whose composition is unknown.
    """
    crystal, elements = np.atleast_1d(state.crystal), np.atleast_2d(state.elements)
    missing = _true_counts(table)[crystal] > count_elements(elements, table.n_elements)
    missing[np.atleast_1d(state.step >= state.n_sites)] = True
    return missing if state.rows else missing[0]


class FixedComposition:
    """A mask that also leaves only the elements of given compositions that are still to be placed.

    Args:
        mask: The mask to restrict.
        counts: Number of sites with each element, in each crystal of the table, int (C, V).
    """

    def __init__(self, mask: Mask, counts: np.ndarray) -> None:
        self.mask = mask
        self.counts = counts

    def __call__(self, table: EpisodeTable, state: EpisodeState) -> np.ndarray:
        """Return the allowed elements.

        Args:
            table: The crystals.
            state: One episode or a batch of B.

        Returns:
            bool (V,) or (B, V).
        """
        placed = count_elements(np.atleast_2d(state.elements), table.n_elements)
        missing = self.counts[np.atleast_1d(state.crystal)] > placed
        return self.mask(table, state) & (missing if state.rows else missing[0])


def count_elements(elements: np.ndarray, n_elements: int) -> np.ndarray:
    """Count the sites with each element, int64 (B, V).

    Args:
        elements: Codes, int (B, N): -1 for padding, 0 for an empty site, 1 to V for an element.
        n_elements: V.
    """
    row, site = np.nonzero(elements > 0)
    index = row * n_elements + elements[row, site] - 1
    counts = np.bincount(index, minlength=len(elements) * n_elements)
    return counts.reshape(len(elements), n_elements)


@functools.lru_cache(maxsize=4)
def _true_counts(table: EpisodeTable) -> np.ndarray:
    """Return the number of sites with each element in each crystal, (C, V)."""
    counts = count_elements(table.true_elements, table.n_elements)
    return counts.astype(np.min_scalar_type(int(counts.max())))
