"""Masks by name."""

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.masks.charge_neutral import charge_neutral
from crystal_gym.masks.composition import composition
from crystal_gym.masks.mask import Mask, no_mask

MASKS: dict[str, Mask] = {
    "charge-neutral": charge_neutral,
    "composition": composition,
    "none": no_mask,
}


def resolve_mask(mask: str | Mask) -> Mask:
    """Return a mask given by its name or as a function.

    The result of a function is checked for its shape and copied at every call.

    Args:
        mask: A name of ``MASKS``, or a function of ``(table, state)``, see ``Mask``.

    Raises:
        UnknownNameError: If there is no mask with this name.
        CrystalGymError: If ``mask`` is neither a name nor a function.
    """
    if isinstance(mask, str):
        if mask not in MASKS:
            raise UnknownNameError("mask", mask, MASKS)
        return MASKS[mask]
    if not callable(mask):
        raise CrystalGymError(
            f"Expected mask to be a name or a function of (table, state), got {mask!r}. "
            f"Names: {', '.join(sorted(MASKS))}."
        )

    def checked_mask(table: EpisodeTable, state: EpisodeState) -> np.ndarray:
        allowed = np.array(mask(table, state), bool)
        shape = (*map(len, state.rows), table.n_elements)
        if allowed.shape != shape:
            raise CrystalGymError(
                f"Expected the action mask to have shape {shape}, got {allowed.shape}."
            )
        return allowed

    return checked_mask
