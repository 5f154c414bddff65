"""FIXDOC."""

import functools
from collections.abc import Callable

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable

# From the state of one episode or of a batch of B to bool (V,) or (B, V), True where allowed; a
# fresh array at every call.
Mask = Callable[[EpisodeTable, EpisodeState], np.ndarray]


def no_mask(table: EpisodeTable, state: EpisodeState) -> np.ndarray:
    """No restriction: every element everywhere."""
    shape = (len(state.crystal), table.n_elements) if state.rows else table.n_elements
    return _all_true(shape).copy()


# Copying is several times faster than making anew, and this runs at every step.
@functools.lru_cache(maxsize=16)
def _all_true(shape: int | tuple[int, int]) -> np.ndarray:
    return np.ones(shape, bool)
