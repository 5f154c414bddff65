"""Masks by name, with parameters."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.masks.charge_neutral import charge_neutral
from crystal_gym.masks.composition import composition
from crystal_gym.masks.mask import Mask, MaskLike, no_mask

MASKS: dict[str, Mask] = {
    "charge-neutral": charge_neutral,
    "charge-neutral-common": functools.partial(charge_neutral, states="common"),
    "composition": composition,
    "none": no_mask,
}


def resolve_mask(mask: MaskLike) -> Mask:
    """Return a mask given by its name, by its name with parameters, or as a function.

    The result of a function is checked for its shape and copied at every call.

    Args:
        mask: A name of ``MASKS``; a mapping of one name to a mapping of parameters, such as
            ``{"charge-neutral": {"states": "common"}}``; or a function of ``(table, state)``, see
            ``Mask``.

    Raises:
        UnknownNameError: If there is no mask or parameter with this name.
        CrystalGymError: If ``mask`` is neither a name, such a mapping nor a function.
    """
    if isinstance(mask, Mapping):
        return _with_parameters(mask)
    if isinstance(mask, str):
        if mask not in MASKS:
            raise UnknownNameError("mask", mask, MASKS)
        return MASKS[mask]
    if not callable(mask):
        raise CrystalGymError(
            "Expected mask to be a name, a mapping of a name to parameters or a function of "
            f"(table, state), got {mask!r}. "
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


def _with_parameters(entry: Mapping[str, Any]) -> Mask:
    parameters = next(iter(entry.values()), None)
    if len(entry) != 1 or not isinstance(parameters, Mapping):
        raise CrystalGymError(
            "Expected a mask with parameters to be a mapping of one name to a mapping, such as "
            f"{{'charge-neutral': {{'states': 'common'}}}}, got {dict(entry)!r}."
        )
    name = next(iter(entry))
    if name not in MASKS:
        raise UnknownNameError("mask", name, MASKS)
    known = list(inspect.signature(MASKS[name]).parameters)[2:]
    for parameter in parameters:
        if parameter not in known:
            raise UnknownNameError(f"parameter of mask {name!r}:", parameter, known)
    return functools.partial(MASKS[name], **parameters)
