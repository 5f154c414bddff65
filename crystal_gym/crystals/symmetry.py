"""The sites of a skeleton that are equivalent under its own symmetry."""

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np

from crystal_gym.errors import SymmetryError

# Deviations from symmetry up to this distance in Å are ignored; pymatgen's default for the space
# group of a computed crystal.
TOLERANCE = 0.01
# Number of attempts, each with half the tolerance of the one before.
_ATTEMPTS = 5
# Number of squared distances in memory at once.
_CHUNK = 2**20


def site_permutations(
    lattice: np.ndarray, frac_coords: np.ndarray, tolerance: float = TOLERANCE
) -> np.ndarray:
    """Compute the site permutations under the space group of the empty skeleton.

    All sites count as the same species, so only the geometry matters. Each operation of the space
    group, including translations, maps every site to a site. Several operations may give the same
    permutation. The permutations form a group.

    Args:
        lattice: Row vectors in Å, (3, 3).
        frac_coords: Fractional coordinates, (n, 3).
        tolerance: Largest distance in Å between the image of a site and the site it is mapped to.

    Returns:
        int64 (P, n), distinct and in lexicographic order, the identity first. Permutation p maps
        site i to site ``permutations[p, i]``.

    Raises:
        SymmetryError: If spglib finds no space group, for example because sites are closer than
            the tolerance or the cell is too flat, or if every space group that it finds moves
            sites by more than the tolerance.
    """
    lattice, frac_coords = np.asarray(lattice, np.float64), np.asarray(frac_coords, np.float64)
    reasons: list[str] = []
    cause = None
    for attempt in range(_ATTEMPTS):
        symprec = tolerance / 2**attempt
        try:
            operations = _operations(lattice, frac_coords, symprec)
            return _permutations(lattice, frac_coords, *operations, tolerance)
        except SymmetryError as error:
            cause = error
            reasons.append(f"{symprec:g} Å: {error}")
    raise SymmetryError(
        f"Expected a space group of the skeleton with {len(frac_coords)} sites, got none "
        f"({'; '.join(reasons)}). Check for overlapping sites and a flat cell, or change the "
        "tolerance."
    ) from cause


@contextlib.contextmanager
def without_announcement() -> Iterator[None]:
    """Ignore spglib's announcement that failures will become exceptions; callers handle both."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Set OLD_ERROR_HANDLING", category=DeprecationWarning
        )
        yield


def _operations(
    lattice: np.ndarray, frac_coords: np.ndarray, symprec: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return rotations (G, 3, 3) and translations (G, 3) in fractional coordinates."""
    import spglib

    with without_announcement():
        try:
            found = spglib.get_symmetry(
                (lattice.tolist(), frac_coords.tolist(), [1] * len(frac_coords)), symprec=symprec
            )
        except spglib.SpglibError as error:
            raise SymmetryError(f"spglib fails with {error}") from error
    if found is None:
        raise SymmetryError("spglib finds no space group")
    return found["rotations"], found["translations"]


def _permutations(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    rotations: np.ndarray,
    translations: np.ndarray,
    tolerance: float,
) -> np.ndarray:
    """Return the distinct permutations (P, n) of the sites by these operations."""
    n = len(frac_coords)
    distinct = []
    step = max(1, _CHUNK // n**2)
    for first in range(0, len(rotations), step):
        chunk = slice(first, first + step)
        moved = frac_coords @ rotations[chunk].swapaxes(1, 2) + translations[chunk, None]
        difference = moved[:, :, None] - frac_coords
        difference -= np.round(difference)
        squared = ((difference @ lattice) ** 2).sum(-1)
        nearest = squared.argmin(-1)
        farthest = np.take_along_axis(squared, nearest[..., None], -1).max()
        if farthest > tolerance**2:
            raise SymmetryError(
                f"an operation moves a site to a place {farthest**0.5:.3g} Å from the nearest site"
            )
        if (np.sort(nearest, 1) != np.arange(n)).any():
            raise SymmetryError("an operation maps two sites to one")
        distinct.append(np.unique(nearest, axis=0))
    return np.unique(np.concatenate(distinct), axis=0)
