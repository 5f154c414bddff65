"""Crystals with their sites in random order."""

import dataclasses

import numpy as np

from crystal_gym.collections.collection import CrystalCollection


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
    ends = np.cumsum(collection.n_edges)
    for row, n in enumerate(collection.n_sites.tolist()):
        # New site i is the old site order[i]; old site s is the new site number[s].
        order = rng.permutation(n)
        number = np.argsort(order)
        atomic_numbers[row, :n] = atomic_numbers[row, order]
        frac_coords[row, :n] = frac_coords[row, order]
        crystal_edges = edges[ends[row] - collection.n_edges[row] : ends[row]]
        crystal_edges[:, :2] = number[crystal_edges[:, :2]]
        crystal_edges[:] = crystal_edges[np.lexsort(crystal_edges.T[::-1])]
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
