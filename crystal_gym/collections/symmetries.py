"""Site permutations of the skeletons of a collection: in parallel, cached and resumable.

The cache has one file for each chunk of crystals. An evaluation of one split computes the chunks of
this split, and the next one reads them.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.collections.preparation import load_arrays, save_arrays
from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.crystals.symmetry import TOLERANCE, site_permutations
from crystal_gym.errors import DamagedFileError, SymmetryError
from crystal_gym.utils import settings
from crystal_gym.utils.identity import safe_name
from crystal_gym.utils.progress import progress_bar

# Increase when the cached arrays would change.
FORMAT = 1
# Number of crystals in one file; an interruption loses at most one chunk of each process.
CHUNK = 256
# Up to this number of crystals, the result is not cached.
UNCACHED_LIMIT = 64
# Up to this number of crystals, one process is faster than starting worker processes.
SERIAL_LIMIT = 512


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
    # Crystals of one split are in the same chunks.
    order = np.argsort(collection.splits, kind="stable")
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    chunks = {
        i: order[i * CHUNK : (i + 1) * CHUNK] for i in np.unique(position[rows] // CHUNK).tolist()
    }
    folder = _folder(collection)
    files = {i: folder / f"{i:05}.npz" for i in chunks}
    done = {
        i: _load(files[i], collection, chunk) for i, chunk in chunks.items() if files[i].is_file()
    }
    missing = {i: chunk for i, chunk in chunks.items() if i not in done}
    for i, arrays in _run(collection, missing, progress):
        save_arrays(files[i], {**arrays, **_identity(collection, chunks[i])})
        done[i] = arrays
    parts = [_unpack(collection, chunk, done[i]) for i, chunk in chunks.items()]
    permutations = {row: found for part in parts for row, found in part.permutations.items()}
    failures = {row: reason for part in parts for row, reason in part.failures.items()}
    return SkeletonSymmetries(
        {row: permutations[row] for row in rows.tolist()},
        {row: failures[row] for row in rows.tolist() if row in failures},
    )


def _folder(collection: CrystalCollection) -> Path:
    """Return the folder of the cached files."""
    identity = [FORMAT, CHUNK, TOLERANCE, version("spglib"), collection.fingerprint()]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    name = safe_name(collection.name, "crystals")
    return settings.cache_folder() / "symmetries" / f"{name}-{key}"


def _identity(collection: CrystalCollection, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays by which a cached file is verified."""
    return {
        "format": np.array(FORMAT),
        "fingerprint": np.array(collection.fingerprint()),
        "rows": rows,
    }


def _load(path: Path, collection: CrystalCollection, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Load and verify the arrays of a chunk."""
    arrays = load_arrays(path)
    expected = _identity(collection, rows)
    names = {*expected, "n_permutations", "permutations", "failures"}
    valid = (
        set(arrays) == names
        and all(np.array_equal(arrays[name], value) for name, value in expected.items())
        and arrays["n_permutations"].shape == arrays["failures"].shape == rows.shape
        and arrays["permutations"].shape
        == ((arrays["n_permutations"] * collection.n_sites[rows]).sum(),)
    )
    if not valid:
        raise DamagedFileError(
            f"Expected the symmetries of {len(rows)} skeletons of {collection.name!r} in {path}, "
            "got other content. Delete it; the next use computes it again."
        )
    return arrays


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


def _run(
    collection: CrystalCollection, chunks: dict[int, np.ndarray], progress: bool
) -> Iterable[tuple[int, dict[str, np.ndarray]]]:
    """Yield the number and the arrays of each chunk when it is finished."""
    total = sum(map(len, chunks.values()))
    if total <= SERIAL_LIMIT:
        yield from ((i, _compute(*_skeletons(collection, rows))) for i, rows in chunks.items())
        return
    import joblib

    with (
        progress_bar("Symmetry of the skeletons", total, shown=progress) as advance,
        joblib.Parallel(n_jobs=-1, return_as="generator") as parallel,
    ):
        results: Any = parallel(
            joblib.delayed(_compute)(*_skeletons(collection, rows)) for rows in chunks.values()
        )
        for (i, rows), arrays in zip(chunks.items(), results, strict=True):
            advance(len(rows))
            yield i, arrays


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
