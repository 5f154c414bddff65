"""Collections whose crystals are altered in one respect."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.neighbors import renumbered
from crystal_gym.utils import ragged


def shuffled_sites(collection: CrystalCollection, seed: int = 0) -> CrystalCollection:
    """Return a collection in which the sites of each crystal are numbered at random.

    Every crystal has its own permutation. Elements, coordinates and edges are permuted with the
    sites. A breadth-first search visits neighbors in the order of their numbers, so its orders
    change too.

    Args:
        collection: The collection.
        seed: Seed of the permutations.

    Returns:
        The shuffled collection. Its name ends with a part of its fingerprint, so that its datasets
        are not confused with those of another order.
    """
    rng = np.random.default_rng(seed)
    atomic_numbers, frac_coords = collection.atomic_numbers.copy(), collection.frac_coords.copy()
    edges = collection.flat_edges.copy()
    first = ragged.starts(collection.n_edges)
    for row, n in enumerate(collection.n_sites.tolist()):
        order = rng.permutation(n)
        atomic_numbers[row, :n] = atomic_numbers[row, order]
        frac_coords[row, :n] = frac_coords[row, order]
        part = slice(first[row], first[row] + collection.n_edges[row])
        edges[part] = renumbered(edges[part], order)
    return _named(
        collection,
        "shuffled",
        "Sites numbered at random.",
        atomic_numbers=atomic_numbers,
        frac_coords=frac_coords,
        flat_edges=edges,
    )


def edges_in_cell(collection: CrystalCollection) -> CrystalCollection:
    """Return a collection without the edges that cross faces of the cell.

    A breadth-first search then follows the same edges as the messages of the paper's networks.

    Args:
        collection: The collection.

    Returns:
        The collection; its name ends with a part of its fingerprint.
    """
    kept = (collection.flat_edges[:, 2:] == 0).all(1)
    owner = np.repeat(np.arange(len(collection)), collection.n_edges)
    return _named(
        collection,
        "in-cell",
        "Only edges inside the cell.",
        flat_edges=collection.flat_edges[kept],
        n_edges=np.bincount(owner[kept], minlength=len(collection)).astype(
            collection.n_edges.dtype
        ),
    )


def _named(
    collection: CrystalCollection, suffix: str, description: str, **changes: np.ndarray
) -> CrystalCollection:
    """Return a collection with changed arrays, a new name and an extended description."""
    altered = dataclasses.replace(
        collection, **changes, description=f"{collection.description} {description}".strip()
    )
    name = f"{collection.name}-{suffix}-{altered.fingerprint()[:8]}"
    return dataclasses.replace(altered, name=name)


ALTERATIONS: Mapping[str, Callable[[CrystalCollection], CrystalCollection]] = {
    "shuffled": shuffled_sites,
    "in-cell": edges_in_cell,
}
