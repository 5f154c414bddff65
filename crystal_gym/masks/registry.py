"""Action masks: which elements may be put on the site in focus."""

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.masks.charge_neutral import charge_neutral
from crystal_gym.masks.mask import Mask, no_mask

MASKS: dict[str, Mask] = {"charge-neutral": charge_neutral, "none": no_mask}


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
