"""Restriction of a mask to a subset of the vocabulary."""

from dataclasses import replace

import numpy as np

from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.masks.mask import Mask


class ElementSubset:
    """A mask that is restricted to a subset of the vocabulary.

    The mask receives episodes whose vocabulary is the subset, so that a mask that looks ahead
    considers no other element.

    Args:
        mask: The mask to restrict.
        table: The crystals, with V elements.
        subset_table: The same crystals, with the subset as their vocabulary.
        allowed: The elements of the subset that may be chosen (default: all of them). The others
            may be assigned already, such as those of kept sites.

    Raises:
        CrystalGymError: If an element of the subset is not in the vocabulary.
    """

    def __init__(
        self,
        mask: Mask,
        table: EpisodeTable,
        subset_table: EpisodeTable,
        allowed: Vocabulary | None = None,
    ) -> None:
        self.mask = mask
        self.subset_table = subset_table
        numbers = subset_table.vocabulary.atomic_numbers
        self.actions = table.vocabulary.encode(numbers) - 1
        # Maps codes of the vocabulary to codes of the subset.
        self.subset_codes = np.zeros(table.n_elements + 1, np.int32)
        self.subset_codes[self.actions + 1] = np.arange(1, len(self.actions) + 1)
        self.selectable = np.ones(len(self.actions), bool)
        if allowed is not None:
            self.selectable = np.isin(numbers, allowed.atomic_numbers)

    def __call__(self, table: EpisodeTable, state: EpisodeState) -> np.ndarray:
        """Return the allowed elements.

        Args:
            table: The crystals, with V elements.
            state: One episode or a batch of B, in which only elements of the subset are assigned.

        Returns:
            bool (V,) or (B, V).
        """
        shape = (len(state.crystal), table.n_elements) if state.rows else table.n_elements
        allowed = np.zeros(shape, bool)
        # Padding has the code -1, which must not index the last element.
        codes = np.where(state.elements < 0, -1, self.subset_codes[state.elements])
        selected = self.mask(self.subset_table, replace(state, elements=codes))
        allowed[..., self.actions] = selected & self.selectable
        return allowed
