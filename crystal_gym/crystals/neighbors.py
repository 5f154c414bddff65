"""Neighbor edges of a crystal."""

import numpy as np

from crystal_gym.crystals.voronoi import faces_of_first, points_within
from crystal_gym.errors import BadCrystalError

# Radius in Å of the sphere around a site in which CrystalNN first searches for neighbors; it grows
# if the Voronoi cell of the site is open.
SEARCH_RADIUS = 7.0
# The points within this radius in Å, a third as many, determine most Voronoi cells.
INNER_RADIUS = 5.0


def neighbor_edges(lattice: np.ndarray, frac_coords: np.ndarray) -> np.ndarray:
    """Compute the edges between neighboring sites from the geometry alone.

    The neighbors are those of CrystalNN (H. Pan et al., Inorg. Chem. 60, 1590, 2021) without its
    element terms. The edges equal those of pymatgen's ``CrystalNN(distance_cutoffs=None,
    x_diff_weight=-1, porous_adjustment=False)``; this array version is several times faster.
    CrystalNN can count site b as a neighbor of a but not a as a neighbor of b. The edges then
    include both directions.

    Args:
        lattice: Row vectors in Å, (3, 3).
        frac_coords: Fractional coordinates, (n, 3).

    Returns:
        Distinct rows ``(source, target, i, j, k)`` in lexicographic order, int16 (m, 5): site
        ``target`` in the cell shifted by ``(i, j, k)`` is a neighbor of site ``source``.

    Raises:
        BadCrystalError: If the Voronoi construction fails, or if a neighbor is more than 32,767
            cells away.
    """
    edges = _neighbors(lattice, frac_coords)
    limit = np.iinfo(np.int16).max
    if (farthest := np.abs(edges).max(initial=0)) > limit:
        raise BadCrystalError(
            f"Expected neighbors at most {limit} cells away, got {farthest}. Check for a cell that "
            "is too thin."
        )
    reverse = np.column_stack([edges[:, 1], edges[:, 0], -edges[:, 2:]])
    return np.unique(np.concatenate([edges, reverse]), axis=0).astype(np.int16)


def _neighbors(lattice: np.ndarray, frac_coords: np.ndarray) -> np.ndarray:
    """Compute the edges from all sites to their neighbors, int64 (l, 5)."""
    edges = []
    sites = np.arange(len(frac_coords))
    # The cells of all sites are computed together, which is several times faster than one by one. A
    # point can cut a cell only within twice the distance of the farthest corner.
    for radius in (INNER_RADIUS, SEARCH_RADIUS):
        if sites.size:
            found, reach = _neighbors_within(lattice, frac_coords, sites, radius)
            known = 2 * reach < radius
            edges.append(found[known[found[:, 0]]])
            edges[-1][:, 0] = sites[edges[-1][:, 0]]
            sites = sites[~known]
    edges += [_neighbors_of_one(lattice, frac_coords, site) for site in sites.tolist()]
    return np.concatenate(edges)


def _neighbors_of_one(lattice: np.ndarray, frac_coords: np.ndarray, site: int) -> np.ndarray:
    """Compute the edges from a site to its neighbors in CrystalNN's sphere, int64 (l, 5).

    In sparse crystals, points beyond the sphere can cut the cell, and CrystalNN ignores them.
    """
    diagonals = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]]) @ lattice
    largest = np.linalg.norm(diagonals, axis=1).max() + 0.01
    radius = SEARCH_RADIUS
    while True:
        edges, reach = _neighbors_within(lattice, frac_coords, np.array([site]), radius)
        if reach[0] < np.inf:
            edges[:, 0] = site
            return edges
        if radius >= largest:
            raise BadCrystalError(
                f"Expected a closed Voronoi cell around site {site} of the skeleton, got an open "
                "one. Check for a unit cell that is too sparse or too flat."
            )
        radius = min(2 * radius, largest)


def _neighbors_within(
    lattice: np.ndarray, frac_coords: np.ndarray, sites: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the edges from sites to neighbors among the points within a distance of the sites.

    Returns:
        Edges, int64 (l, 5), whose sources are places in ``sites``; none for open cells. The
        distance of the farthest corner of each Voronoi cell in Å, (k,), infinite for open cells.
    """
    points, sites_and_images = points_within(lattice, frac_coords, sites, radius)
    faces = faces_of_first(points, len(sites))
    closed = np.isfinite(faces.reach)[faces.source]
    source, behind = faces.source[closed], faces.behind[closed]
    near = _most_probable_shells(source, faces.angles[closed], len(sites))
    return np.column_stack([source[near], sites_and_images[behind[near]]]), faces.reach


def _most_probable_shells(source: np.ndarray, angles: np.ndarray, n: int) -> np.ndarray:
    """Select the faces whose points are neighbors, as CrystalNN does.

    The probability of a coordination number is the area under a unit quarter circle between the
    relative solid angle of its last neighbor and that of the next point.

    Args:
        source: The site of each face, int (f,), ascending.
        angles: Solid angles of the faces in steradians, (f,).
        n: Number of sites.

    Returns:
        Whether the point behind each face is a neighbor, bool (f,).
    """
    if not source.size:
        return np.zeros(0, bool)
    count = np.bincount(source, minlength=n)
    place = np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count)
    weights = np.zeros((n, int(count.max()) + 1))
    weights[source, place] = angles
    largest = weights.max(axis=1, keepdims=True)
    weights = np.round(weights / np.where(largest > 0, largest, 1), 3)
    # Equal and zero weights have no area between them. Each row ends with a zero.
    levels = -np.sort(-weights, axis=1)
    area = levels * np.sqrt(1 - levels**2) + np.arcsin(levels)
    best = np.argmax(area[:, :-1] - area[:, 1:], axis=1)
    return weights[source, place] >= levels[source, best[source]]


def renumbered(edges: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """Return the edges of a crystal whose sites are in another order.

    Args:
        edges: Edges of ``neighbor_edges``, (m, 5).
        sites: The present number of each site of the new order, a permutation (n,).

    Returns:
        New edges in the order of ``neighbor_edges``, (m, 5).
    """
    edges = edges.copy()
    edges[:, :2] = np.argsort(sites)[edges[:, :2]]
    return edges[np.lexsort(edges.T[::-1])]


def in_cell(edges: np.ndarray) -> np.ndarray:
    """Select the edges within the cell, with the image (0, 0, 0): the graph of the paper."""
    return edges[(edges[:, 2:] == 0).all(axis=1)]
