"""The prototype of a crystal: its space group, anonymous formula and number of sites."""

import math
from collections import Counter

import numpy as np

from crystal_gym.crystals.symmetry import TOLERANCE, without_announcement

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def prototype(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    atomic_numbers: np.ndarray,
    tolerance: float = TOLERANCE,
) -> str:
    """Return the prototype of a crystal, such as ``221 ABC3 5`` for cubic perovskites.

    Args:
        lattice: Row vectors in Å, (3, 3).
        frac_coords: Fractional coordinates, (n, 3).
        atomic_numbers: Atomic numbers, int (n,).
        tolerance: Largest deviation from symmetry in Å, the ``symprec`` of spglib.

    Returns:
        The number of the space group, the anonymous formula and n. If spglib finds no space group,
        its number is 0.
    """
    group = space_group_number(lattice, frac_coords, atomic_numbers, tolerance)
    return f"{group} {anonymous_formula(atomic_numbers)} {len(atomic_numbers)}"


def space_group_number(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    atomic_numbers: np.ndarray,
    tolerance: float = TOLERANCE,
) -> int:
    """Return the number of the space group of a crystal by spglib, 1 to 230, or 0 if it fails.

    Args:
        lattice: Row vectors in Å, (3, 3).
        frac_coords: Fractional coordinates, (n, 3).
        atomic_numbers: Atomic numbers, int (n,).
        tolerance: The ``symprec`` of spglib in Å.
    """
    import spglib

    cell = (lattice.tolist(), frac_coords.tolist(), np.asarray(atomic_numbers).tolist())
    with without_announcement():
        try:
            found = spglib.get_symmetry_dataset(cell, symprec=tolerance)
        except spglib.SpglibError:
            return 0
    return 0 if found is None else int(found.number)


def anonymous_formula(atomic_numbers: np.ndarray) -> str:
    """Return the reduced formula with letters in place of elements, such as ``ABC3``.

    The letters are in ascending order of the amounts, as in pymatgen.

    Args:
        atomic_numbers: Atomic numbers, int (n,).
    """
    amounts = sorted(Counter(np.asarray(atomic_numbers).tolist()).values())
    divisor = math.gcd(*amounts)
    return "".join(
        f"{letter}{amount // divisor if amount > divisor else ''}"
        for letter, amount in zip(_LETTERS, amounts, strict=False)
    )
