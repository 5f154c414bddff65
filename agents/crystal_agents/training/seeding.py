"""FIXDOC."""

import hashlib
from typing import TYPE_CHECKING

import torch

from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    pass


def check_seed(seed: int) -> None:
    """Refuse what numpy and torch do not both take.

    Raises:
        CrystalGymError: not a number from 0 to 2³² − 1.
    """
    if not 0 <= seed < 2**32:
        raise CrystalGymError(f"A seed is a whole number from 0 to 2**32 - 1, not {seed}.")


def derive_seed(*numbers: int) -> int:
    """One seed from several numbers; close inputs give unrelated seeds."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:7])


def make_generator(*numbers: int) -> torch.Generator:
    """Random numbers that depend on these numbers alone."""
    return torch.Generator().manual_seed(derive_seed(*numbers))
