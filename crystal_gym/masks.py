"""Action masks: which elements may be put on the site in focus."""

from collections.abc import Callable

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError

# From the state of one episode or of a batch of B to bool (V,) or (B, V), True where allowed.
Mask = Callable[[EpisodeTable, EpisodeState], np.ndarray]


def every_element(table: EpisodeTable, state: EpisodeState) -> np.ndarray:
    """No restriction: every element everywhere."""
    return np.ones((*map(len, state.rows), len(table.vocabulary)), bool)


MASKS: dict[str, Mask] = {"none": every_element}


def resolve_mask(mask: str | Mask) -> Mask:
    """A mask given by its name or as a function.

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
    return mask


def allowed(mask: Mask, table: EpisodeTable, state: EpisodeState) -> np.ndarray:
    """The mask's answer, bool (V,) or (B, V), as a fresh array.

    Raises:
        CrystalGymError: the mask gave another shape.
    """
    answer = np.array(mask(table, state), bool)
    shape = (*map(len, state.rows), len(table.vocabulary))
    if answer.shape != shape:
        raise CrystalGymError(f"The action mask has shape {answer.shape}; it must be {shape}.")
    return answer
