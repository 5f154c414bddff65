"""Crystals with their sites in random order."""

import dataclasses

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
    shuffled = dataclasses.replace(
        collection,
        atomic_numbers=atomic_numbers,
        frac_coords=frac_coords,
        flat_edges=edges,
        description=f"{collection.description} Sites numbered at random.".strip(),
    )
    return dataclasses.replace(
        shuffled, name=f"{collection.name}-shuffled-{shuffled.fingerprint()[:8]}"
    )
