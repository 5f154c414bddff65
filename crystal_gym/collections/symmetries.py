"""Site permutations of the skeletons of a collection: in parallel, cached and resumable.

The cache has one file for each chunk of crystals. An evaluation of one split computes the chunks of
this split, and the next one reads them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from crystal_gym.collections.chunked_cache import cached_chunks
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.crystals.symmetry import TOLERANCE, site_permutations
from crystal_gym.errors import SymmetryError

# Increase when the cached arrays would change.
FORMAT = 2
# Up to this number of crystals, the result is not cached.
UNCACHED_LIMIT = 64


@dataclass(frozen=True)
class SkeletonSymmetries:
    """The symmetries of some skeletons of a collection.

    Attributes:
        permutations: Permutations of the sites under the skeleton's space group, int64 (P, n), by
            row of the collection; see ``site_permutations``. A skeleton without a space group has
            only the identity.
        failures: Reason why a skeleton has no space group, by row of the collection.
    """

    permutations: dict[int, np.ndarray]
    failures: dict[int, str]


def skeleton_symmetries(
    collection: CrystalCollection, rows: Sequence[int] | np.ndarray, *, progress: bool = True
) -> SkeletonSymmetries:
    """Compute the site permutations of skeletons, or load them from the cache.

    The cached files belong to the fingerprint of the collection, the tolerance and the version of
    spglib. An interrupted computation resumes from the finished files.

    Args:
        collection: The crystals.
        rows: Rows of the collection, (S,).
        progress: Show a progress bar.

    Raises:
        DamagedFileError: If a cached file is damaged or belongs to other crystals.
        StorageError: If the cache folder cannot be written.
    """
    rows = np.asarray(rows, np.int64)
    if len(rows) <= UNCACHED_LIMIT:
        return _unpack(collection, rows, _compute(*_skeletons(collection, rows)))

    def is_valid(chunk: np.ndarray, arrays: Mapping[str, np.ndarray]) -> bool:
        return (
            set(arrays) == {"n_permutations", "permutations", "failures"}
            and arrays["n_permutations"].shape == arrays["failures"].shape == chunk.shape
            and arrays["permutations"].shape
            == ((arrays["n_permutations"] * collection.n_sites[chunk]).sum(),)
        )

    chunks = cached_chunks(
        collection,
        rows,
        _compute,
        _skeletons,
        is_valid,
        folder="symmetries",
        identity=[FORMAT, TOLERANCE, version("spglib")],
        title="Symmetry of the skeletons",
        progress=progress,
    )
    parts = [_unpack(collection, chunk, arrays) for chunk, arrays in chunks]
    permutations = {row: found for part in parts for row, found in part.permutations.items()}
    failures = {row: reason for part in parts for row, reason in part.failures.items()}
    return SkeletonSymmetries(
        {row: permutations[row] for row in rows.tolist()},
        {row: failures[row] for row in rows.tolist() if row in failures},
    )


def _unpack(
    collection: CrystalCollection, rows: np.ndarray, arrays: dict[str, np.ndarray]
) -> SkeletonSymmetries:
    """Return the symmetries in the arrays of a chunk."""
    n_sites = collection.n_sites[rows]
    ends = np.cumsum(arrays["n_permutations"] * n_sites)
    flat = np.split(arrays["permutations"].astype(np.int64), ends)[:-1]
    permutations = {
        row: part.reshape(-1, n)
        for row, n, part in zip(rows.tolist(), n_sites.tolist(), flat, strict=True)
    }
    reasons = zip(rows.tolist(), arrays["failures"].tolist(), strict=True)
    return SkeletonSymmetries(permutations, {row: reason for row, reason in reasons if reason})


def _skeletons(
    collection: CrystalCollection, rows: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return lattice vectors in Å, (S, 3, 3), and the fractional coordinates of each skeleton."""
    coords = [collection.frac_coords[row, : collection.n_sites[row]] for row in rows.tolist()]
    return lattice_matrix(collection.parameters[rows]), coords


def _compute(lattices: np.ndarray, frac_coords: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the permutations of some skeletons, one after the other, and reasons of failures."""
    permutations, failures = [], []
    for lattice, sites in zip(lattices, frac_coords, strict=True):
        try:
            permutations.append(site_permutations(lattice, sites))
            failures.append("")
        except SymmetryError as error:
            permutations.append(np.arange(len(sites))[None])
            failures.append(str(error))
    flat = [np.empty(0, np.int16), *(found.ravel() for found in permutations)]
    return {
        "n_permutations": np.array([len(found) for found in permutations], np.int64),
        "permutations": np.concatenate(flat).astype(np.int16),
        "failures": np.array(failures, np.str_),
    }
