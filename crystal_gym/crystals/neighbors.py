"""Neighbor edges of a crystal."""

import itertools
from typing import Any

import numpy as np

from crystal_gym.errors import BadCrystalError

# Radius in Å of the sphere in which CrystalNN first searches; it grows if a Voronoi cell is open.
SEARCH_RADIUS = 7.0
# The sites within this radius in Å, a third as many, determine most Voronoi cells.
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
    edges = np.concatenate([_neighbors(lattice, frac_coords, s) for s in range(len(frac_coords))])
    limit = np.iinfo(np.int16).max
    if (farthest := np.abs(edges).max(initial=0)) > limit:
        raise BadCrystalError(
            f"Expected neighbors at most {limit} cells away, got {farthest}. Check for a cell that "
            "is too thin."
        )
    reverse = np.column_stack([edges[:, 1], edges[:, 0], -edges[:, 2:]])
    return np.unique(np.concatenate([edges, reverse]), axis=0).astype(np.int16)


def _neighbors(lattice: np.ndarray, frac_coords: np.ndarray, source: int) -> np.ndarray:
    """Compute the edges from site ``source`` to its neighbors, int64 (l, 5)."""
    from pymatgen.core import Lattice

    cell = Lattice(lattice)
    diagonals = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]]) @ lattice
    largest = np.linalg.norm(diagonals, axis=1).max() + 0.01
    radius = SEARCH_RADIUS
    while True:
        sphere: Any = cell.get_points_in_sphere(
            frac_coords, frac_coords[source] @ lattice, radius, zip_results=False
        )
        coords, distances, sites, images = sphere
        nearest_first = np.argsort(distances, kind="stable")
        points = coords[nearest_first] @ lattice
        inner = np.searchsorted(distances[nearest_first], INNER_RADIUS)
        behind, angles, reach = _voronoi_faces(points[:inner])
        if 2 * reach >= INNER_RADIUS:  # sites farther away can cut the cell
            behind, angles, reach = _voronoi_faces(points)
        if reach < np.inf:
            break
        if radius >= largest:
            raise BadCrystalError(
                f"Expected a closed Voronoi cell around site {source} of the skeleton, got an open "
                "one. Check for a unit cell that is too sparse or too flat."
            )
        radius = min(2 * radius, largest)
    neighbors = nearest_first[behind[_most_probable_shell(angles)]]
    return np.column_stack(
        [np.full(len(neighbors), source), sites[neighbors], images[neighbors].astype(int)]
    )


def _voronoi_faces(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Compute the faces of the Voronoi cell of the first point.

    Args:
        points: Positions in Å, (p, 3).

    Returns:
        For each face, the index of the point behind it, (f,), and its solid angle in steradians,
        (f,); and the distance of the farthest corner in Å. For an open cell this distance is
        infinite and the arrays are empty.
    """
    from scipy.spatial import QhullError, Voronoi

    is_open = np.zeros(0, int), np.zeros(0), np.inf
    try:
        voronoi = Voronoi(points)
    except QhullError:  # too few points
        return is_open
    ridges = np.flatnonzero((voronoi.ridge_points == 0).any(axis=1))
    faces = [voronoi.ridge_vertices[ridge] for ridge in ridges]
    if not faces or any(-1 in face for face in faces):
        return is_open
    # Each face is a fan of triangles, which form tetrahedra with the first point.
    fans = [(face[0], *pair) for face in faces for pair in itertools.pairwise(face[1:])]
    face_of_fan = np.repeat(np.arange(len(faces)), [len(face) - 2 for face in faces])
    a, b, c = np.moveaxis(voronoi.vertices[np.array(fans)] - points[0], 1, 0)
    norm_a, norm_b, norm_c = (np.linalg.norm(edge, axis=1) for edge in (a, b, c))
    volume = np.abs((a * np.cross(b, c)).sum(axis=1))
    opening = (
        norm_a * norm_b * norm_c
        + norm_c * (a * b).sum(axis=1)
        + norm_b * (a * c).sum(axis=1)
        + norm_a * (b * c).sum(axis=1)
    )
    angles = np.bincount(face_of_fan, 2 * np.arctan2(volume, opening), len(faces))
    reach = float(max(norm_a.max(), norm_b.max(), norm_c.max()))
    return voronoi.ridge_points[ridges].sum(axis=1), angles, reach


def _most_probable_shell(angles: np.ndarray) -> np.ndarray:
    """Select the faces whose points are neighbors, as CrystalNN does.

    The probability of a coordination number is the area under a unit quarter circle between the
    relative solid angle of its last neighbor and that of the next point.

    Args:
        angles: Solid angles of the faces in steradians, (f,).

    Returns:
        Whether the point behind each face is a neighbor, bool (f,).
    """
    weights = np.round(angles / angles.max(), 3)
    levels = np.append(np.unique(weights[weights > 0])[::-1], 0.0)
    area = levels * np.sqrt(1 - levels**2) + np.arcsin(levels)
    return weights >= levels[np.argmax(area[:-1] - area[1:])]


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
