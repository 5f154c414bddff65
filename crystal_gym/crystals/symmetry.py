"""Which sites of a skeleton its own symmetry makes equal."""

import warnings

import numpy as np

# Å. What a skeleton's geometry tells apart by more than this is not called equal; pymatgen's
# default for the space group of a computed crystal.
TOLERANCE = 0.01
# Attempts with half the tolerance each, where operations move sites by more than was asked for.
_ATTEMPTS = 5
# Distances that are held at once.
_CHUNK = 2**20


def site_permutations(
    lattice: np.ndarray, frac_coords: np.ndarray, tolerance: float = TOLERANCE
) -> np.ndarray:
    """The permutations of the sites under the space group of the empty skeleton.

    All sites count as the same species: nothing but the geometry enters. Each operation of the
    space group, translations included, puts every site on a site, and several operations may
    permute the sites alike. Permutations form a group. Where spglib finds no space group (sites
    closer than the tolerance, a cell that is too flat), it is the identity alone.

    Args:
        lattice: row vectors in Å, (3, 3).
        frac_coords: fractional coordinates, (n, 3).
        tolerance: the largest distance in Å between a moved site and the one that it is put on.

    Returns:
        int64 (P, n), distinct and in lexicographic order, the identity first: permutation p puts
        site i on site ``permutations[p, i]``.
    """
    lattice, frac_coords = np.asarray(lattice, np.float64), np.asarray(frac_coords, np.float64)
    for attempt in range(_ATTEMPTS):
        operations = _operations(lattice, frac_coords, tolerance / 2**attempt)
        if operations is None:
            continue
        permutations = _permutations(lattice, frac_coords, *operations, tolerance)
        if permutations is not None:
            return permutations
    return np.arange(len(frac_coords))[None]


def _operations(
    lattice: np.ndarray, frac_coords: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Rotations (G, 3, 3) and translations (G, 3) in fractional coordinates, or ``None``."""
    import spglib

    with warnings.catch_warnings():
        # spglib announces that failures will be exceptions; both ways are taken here.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            found = spglib.get_symmetry(
                (lattice.tolist(), frac_coords.tolist(), [1] * len(frac_coords)), symprec=tolerance
            )
        except spglib.SpglibError:
            return None
    return None if found is None else (found["rotations"], found["translations"])


def _permutations(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    rotations: np.ndarray,
    translations: np.ndarray,
    tolerance: float,
) -> np.ndarray | None:
    """Distinct permutations (P, n), or ``None`` if an operation is none within the tolerance."""
    n = len(frac_coords)
    distinct = []
    step = max(1, _CHUNK // n**2)
    for first in range(0, len(rotations), step):
        some = slice(first, first + step)
        moved = frac_coords @ rotations[some].swapaxes(1, 2) + translations[some, None]
        apart = moved[:, :, None] - frac_coords
        apart -= np.round(apart)
        squared = ((apart @ lattice) ** 2).sum(-1)
        nearest = squared.argmin(-1)
        reached = np.take_along_axis(squared, nearest[..., None], -1)
        if reached.max() > tolerance**2 or (np.sort(nearest, 1) != np.arange(n)).any():
            return None
        distinct.append(np.unique(nearest, axis=0))
    return np.unique(np.concatenate(distinct), axis=0)
