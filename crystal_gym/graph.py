"""Neighbour edges of a crystal and the orders in which its sites can be visited."""

import functools
import warnings

import numpy as np

from crystal_gym.errors import BadCrystalError


@functools.cache
def _crystal_nn():  # noqa: ANN202 - naming the type would import pymatgen
    """CrystalNN with every term switched off that looks at the elements."""
    from pymatgen.analysis.local_env import CrystalNN

    return CrystalNN(distance_cutoffs=None, x_diff_weight=-1, porous_adjustment=False)


def neighbour_edges(lattice: np.ndarray, frac_coords: np.ndarray) -> np.ndarray:
    """Edges between neighbouring sites, from the geometry alone.

    CrystalNN (H. Pan et al., Inorg. Chem. 60, 1590, 2021) with its element terms switched off, run
    on sites that all carry the same element. Its neighbourhoods need not be mutual; an edge is
    kept in both directions when either end sees the other.

    Args:
        lattice: row vectors in Å, (3, 3).
        frac_coords: fractional coordinates, (n, 3).

    Returns:
        int16 (m, 5), rows ``(source, target, i, j, k)`` in lexicographic order, each once: the
        neighbour of site ``source`` is site ``target`` in the cell shifted by ``(i, j, k)``.

    Raises:
        BadCrystalError: the Voronoi construction fails.
    """
    from pymatgen.core import Structure

    structure = Structure(lattice, ["H"] * len(frac_coords), frac_coords)
    edges = set()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for source in range(len(structure)):
                for neighbour in _crystal_nn().get_nn_info(structure, source):
                    target, (i, j, k) = int(neighbour["site_index"]), map(int, neighbour["image"])
                    edges |= {(source, target, i, j, k), (target, source, -i, -j, -k)}
    except (ValueError, RuntimeError, IndexError) as error:
        raise BadCrystalError(
            f"No neighbours can be assigned ({error}); the cell may be far too sparse or too flat."
        ) from error
    return np.array(sorted(edges), np.int16).reshape(-1, 5)


def in_cell(edges: np.ndarray) -> np.ndarray:
    """The edges that do not cross the cell's faces (image (0, 0, 0)): the paper's graph."""
    return edges[(edges[:, 2:] == 0).all(axis=1)]


def breadth_first(edges: np.ndarray, n_sites: int, source: int) -> np.ndarray:
    """Sites in breadth-first order: frontier by frontier, the lowest index first.

    A disconnected graph goes on from its lowest unvisited site.

    Args:
        edges: (m, 5) as from ``neighbour_edges``.
        n_sites: number of sites n.
        source: the first site, 0 to n - 1.

    Returns:
        int16 (n,), a permutation of the sites.
    """
    adjacent = np.zeros((n_sites, n_sites), bool)
    adjacent[edges[:, 0], edges[:, 1]] = True
    order = [source]
    unvisited = np.ones(n_sites, bool)
    unvisited[source] = False
    frontier = [source]
    while len(order) < n_sites:
        reached = np.flatnonzero(adjacent[frontier].any(axis=0) & unvisited)
        frontier = reached.tolist() or [int(np.flatnonzero(unvisited)[0])]
        unvisited[frontier] = False
        order += frontier
    return np.array(order, np.int16)


def breadth_first_from_all(edges: np.ndarray, n_sites: int) -> np.ndarray:
    """Breadth-first orders from every site, int16 (n, n): row s starts at site s."""
    return np.stack([breadth_first(edges, n_sites, source) for source in range(n_sites)])
