"""Seeds and random generators that are derived from given numbers only."""

import hashlib

import torch

from crystal_gym.errors import CrystalGymError


def check_seed(seed: int) -> None:
    """Validate a seed for both NumPy and PyTorch.

    Raises:
        CrystalGymError: If the seed is not from 0 to 2³² − 1.
    """
    if not 0 <= seed < 2**32:
        raise CrystalGymError(f"Expected a seed from 0 to 2**32 - 1, got {seed}.")


def derive_seed(*numbers: int) -> int:
    """Return a seed derived from several numbers; similar numbers give unrelated seeds."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:7])


def make_generator(*numbers: int) -> torch.Generator:
    """Return a random generator seeded with the seed that is derived from the numbers."""
    return torch.Generator().manual_seed(derive_seed(*numbers))
