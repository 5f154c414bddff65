"""The same crystals with their sites in another order."""

import dataclasses

import numpy as np

from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.neighbors import breadth_first_from_all


def shuffled_sites(collection: CrystalCollection, seed: int = 0) -> CrystalCollection:
    """Every crystal with its sites numbered at random, by a permutation of its own.

    Elements, coordinates and edges move with their sites. The traversals are made anew: breadth
    first takes the lowest number first, so those of the source's order would give it away.

    Args:
        collection: the crystals.
        seed: of the permutations.

    Returns:
        A collection whose name ends with a part of its fingerprint: a data set made from it is
        never taken for that of others.
    """
    rng = np.random.default_rng(seed)
    atomic_numbers, frac_coords = collection.atomic_numbers.copy(), collection.frac_coords.copy()
    edges, traversals = collection.edges.copy(), collection.traversals.copy()
    for row, n in enumerate(collection.n_sites.tolist()):
        # New site i is the old site order[i]; the old site s is the new one number[s].
        order = rng.permutation(n)
        number = np.argsort(order)
        atomic_numbers[row, :n] = atomic_numbers[row, order]
        frac_coords[row, :n] = frac_coords[row, order]
        own = edges[row, edges[row, :, 0] >= 0]
        own[:, :2] = number[own[:, :2]]
        own = own[np.lexsort(own.T[::-1])]
        edges[row, : len(own)] = own
        traversals[row, :n, :n] = breadth_first_from_all(own, n)
    shuffled = dataclasses.replace(
        collection,
        atomic_numbers=atomic_numbers,
        frac_coords=frac_coords,
        edges=edges,
        traversals=traversals,
        description=f"{collection.description} Sites numbered at random.".strip(),
    )
    return dataclasses.replace(
        shuffled, name=f"{collection.name}-shuffled-{shuffled.fingerprint()[:8]}"
    )
