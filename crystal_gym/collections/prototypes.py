"""Prototypes of the crystals of a collection: in parallel, cached and resumable."""

from collections.abc import Mapping
from importlib.metadata import version

import numpy as np

from crystal_gym.collections.chunked_cache import cached_chunks
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.prototype import prototype
from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.crystals.symmetry import TOLERANCE

# Increase when the cached arrays would change.
FORMAT = 1


def prototypes(collection: CrystalCollection, *, progress: bool = True) -> np.ndarray:
    """Return the prototype of each crystal, such as ``221 ABC3 5``, str (C,).

    See ``crystal_gym.crystals.prototype``. The result is cached for the fingerprint of the
    collection and the version of spglib.

    Args:
        collection: The crystals.
        progress: Show a progress bar.

    Raises:
        DamagedFileError: If a cached file is damaged or belongs to other crystals.
        StorageError: If the cache folder cannot be written.
    """
    chunks = cached_chunks(
        collection,
        np.arange(len(collection)),
        _compute,
        _arguments,
        _is_valid,
        folder="prototypes",
        identity=[FORMAT, TOLERANCE, version("spglib")],
        title="Prototypes of the crystals",
        progress=progress,
    )
    found = np.empty(len(collection), object)
    for rows, arrays in chunks:
        found[rows] = arrays["prototypes"]
    return found.astype(np.str_)


def split_by_prototype(
    collection: CrystalCollection, *, progress: bool = True
) -> CrystalCollection:
    """Return the same crystals in new splits, so that each prototype is in one split.

    Args:
        collection: The crystals.
        progress: Show a progress bar while prototypes are computed.
    """
    return collection.split_by_group(
        prototypes(collection, progress=progress),
        "prototype",
        "all crystals with one space group, anonymous formula and number of sites are in the same "
        "split.",
    )


def _arguments(
    collection: CrystalCollection, rows: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    cells = list(zip(rows.tolist(), collection.n_sites[rows].tolist(), strict=True))
    return (
        lattice_matrix(collection.parameters[rows]),
        [collection.frac_coords[row, :n] for row, n in cells],
        [collection.atomic_numbers[row, :n] for row, n in cells],
    )


def _compute(
    lattices: np.ndarray, frac_coords: list[np.ndarray], atomic_numbers: list[np.ndarray]
) -> dict[str, np.ndarray]:
    crystals = zip(lattices, frac_coords, atomic_numbers, strict=True)
    return {"prototypes": np.array([prototype(*crystal) for crystal in crystals], np.str_)}


def _is_valid(rows: np.ndarray, arrays: Mapping[str, np.ndarray]) -> bool:
    return set(arrays) == {"prototypes"} and arrays["prototypes"].shape == rows.shape
