"""Action masks of the crystals that a search may still evaluate."""

import numpy as np

from crystal_agents.experiments.discovery.search_space import SearchSpace
from crystal_gym.episode import EpisodeState, EpisodeTable


class RemainingCrystalsMask:
    """A mask that allows the elements with which a crystal that is not evaluated can be reached.

    Parallel episodes can fill the same crystal. If no crystal remains that begins as an episode
    does, the mask allows those that were evaluated.

    Args:
        table: The crystals, in the vocabulary of the environment.
        space: The search space, whose rule the mask respects.
        order: Sites in the order in which every episode fills them, (N,).
    """

    def __init__(self, table: EpisodeTable, space: SearchSpace, order: np.ndarray) -> None:
        codes = table.true_elements[:, order].astype(np.int64)
        self._order = order
        # A beginning of an episode is a number whose digits are the codes of the filled sites.
        self._base = table.n_elements + 1
        self._keys: list[np.ndarray] = []
        self._prefix = np.zeros(codes.shape, np.int64)
        self._actions = codes - 1
        self._counts: list[np.ndarray] = []
        key = np.zeros(len(codes), np.int64)
        for step in range(codes.shape[1]):
            keys, self._prefix[:, step] = np.unique(key, return_inverse=True)
            self._keys.append(keys)
            counts = np.zeros((len(keys), table.n_elements), np.int64)
            rows = np.flatnonzero(space.allowed)
            np.add.at(counts, (self._prefix[rows, step], self._actions[rows, step]), 1)
            self._counts.append(counts)
            key = key * self._base + codes[:, step]
        self._all = [counts > 0 for counts in self._counts]

    def remove(self, crystals: np.ndarray) -> None:
        """Exclude crystals that were evaluated.

        Args:
            crystals: Distinct rows of the collection, (k,), not excluded before.
        """
        for step, counts in enumerate(self._counts):
            where = (self._prefix[crystals, step], self._actions[crystals, step])
            np.subtract.at(counts, where, 1)

    def __call__(self, table: EpisodeTable, state: EpisodeState) -> np.ndarray:
        """Return the allowed elements, bool (V,) or (B, V)."""
        elements = np.atleast_2d(state.elements)[:, self._order].astype(np.int64)
        steps = np.atleast_1d(state.step)
        # All sites are filled after the last step, whose mask is not used.
        allowed = np.ones((len(steps), table.n_elements), bool)
        key = np.zeros(len(steps), np.int64)
        for step, keys in enumerate(self._keys):
            rows = np.flatnonzero(steps == step)
            prefix = np.searchsorted(keys, key[rows])
            remaining = self._counts[step][prefix] > 0
            none_left = ~remaining.any(1, keepdims=True)
            allowed[rows] = np.where(none_left, self._all[step][prefix], remaining)
            key = key * self._base + elements[:, step]
        return allowed if state.rows else allowed[0]
