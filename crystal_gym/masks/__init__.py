"""Action masks: the elements that may be assigned to the site in focus."""

from crystal_gym.masks.mask import Mask, MaskLike, no_mask
from crystal_gym.masks.registry import MASKS, resolve_mask

__all__ = ["MASKS", "Mask", "MaskLike", "no_mask", "resolve_mask"]
