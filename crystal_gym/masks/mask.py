"""The interface of masks, and the mask ``none``."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable

# Maps the crystals and the state of one episode or of B episodes to the allowed elements, bool (V,)
# or (B, V). Every call returns a new array.
Mask = Callable[[EpisodeTable, EpisodeState], np.ndarray]
# The argument of ``resolve_mask``.
MaskLike = str | Mapping[str, Any] | Mask


def no_mask(table: EpisodeTable, state: EpisodeState) -> np.ndarray:
    """Allow every element.

    Args:
        table: The crystals.
        state: One episode or a batch of B.

    Returns:
        bool (V,) or (B, V), all True.
    """
    shape = (len(state.crystal), table.n_elements) if state.rows else table.n_elements
    return _all_true(shape).copy()


# A copy is several times faster than a new array, and this function is called at every step.
@functools.lru_cache(maxsize=16)
def _all_true(shape: int | tuple[int, int]) -> np.ndarray:
    return np.ones(shape, bool)
