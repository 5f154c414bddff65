"""Action masks: which elements may be put on the site in focus."""

import functools
from collections.abc import Callable

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.masks.charge_neutral import charge_neutral

# From the state of one episode or of a batch of B to bool (V,) or (B, V), True where allowed; a
# fresh array at every call.
Mask = Callable[[EpisodeTable, EpisodeState], np.ndarray]


def every_element(table: EpisodeTable, state: EpisodeState) -> np.ndarray:
    """No restriction: every element everywhere."""
    shape = (len(state.crystal), table.n_elements) if state.rows else table.n_elements
    return _all_true(shape).copy()


# Copying is several times faster than making anew, and this runs at every step.
@functools.lru_cache(maxsize=16)
def _all_true(shape: int | tuple[int, int]) -> np.ndarray:
    return np.ones(shape, bool)


MASKS: dict[str, Mask] = {"charge-neutral": charge_neutral, "none": every_element}


def resolve_mask(mask: str | Mask) -> Mask:
    """A mask given by its name or as a function.

    The answers of a function are checked for their shape and copied.

    Raises:
        UnknownNameError: no such name.
        CrystalGymError: neither a name nor a function.
    """
    if isinstance(mask, str):
        if mask not in MASKS:
            raise UnknownNameError("mask", mask, MASKS)
        return MASKS[mask]
    if not callable(mask):
        raise CrystalGymError(
            f"A mask is a name or a function of (table, state), not {mask!r}. "
            f"Names: {', '.join(sorted(MASKS))}."
        )

    def checked(table: EpisodeTable, state: EpisodeState) -> np.ndarray:
        answer = np.array(mask(table, state), bool)
        shape = (*map(len, state.rows), table.n_elements)
        if answer.shape != shape:
            raise CrystalGymError(f"The action mask has shape {answer.shape}; it must be {shape}.")
        return answer

    return checked
