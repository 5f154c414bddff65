"""Neighbour edges of a crystal and the orders in which its sites can be visited."""

import itertools
from typing import Any

import numpy as np

from crystal_gym.errors import BadCrystalError

# CrystalNN's first sphere (Å) of sites around each centre; it grows where a Voronoi cell is open.
SEARCH_RADIUS = 7.0
# Most Voronoi cells are complete with the sites inside this sphere (Å), a third as many.
INNER_RADIUS = 5.0


def neighbor_edges(lattice: np.ndarray, frac_coords: np.ndarray) -> np.ndarray:
    """Edges between neighbouring sites, from the geometry alone.

    The neighbourhoods are those of CrystalNN (H. Pan et al., Inorg. Chem. 60, 1590, 2021) with its
    element terms switched off: pymatgen's ``CrystalNN(distance_cutoffs=None, x_diff_weight=-1,
    porous_adjustment=False)``, of which this is a version in arrays, several times as fast. They
    need not be mutual; an edge is kept in both directions when either end sees the other.

    Args:
        lattice: row vectors in Å, (3, 3).
        frac_coords: fractional coordinates, (n, 3).

    Returns:
        int16 (m, 5), rows ``(source, target, i, j, k)`` in lexicographic order, each once: the
        neighbor of site ``source`` is site ``target`` in the cell shifted by ``(i, j, k)``.

    Raises:
        BadCrystalError: the Voronoi construction fails.
    """
    seen = np.concatenate([_neighbors(lattice, frac_coords, s) for s in range(len(frac_coords))])
    if np.abs(seen).max(initial=0) > np.iinfo(np.int16).max:
        raise BadCrystalError("A neighbor is too many cells away; the cell is far too thin.")
    reverse = np.column_stack([seen[:, 1], seen[:, 0], -seen[:, 2:]])
    return np.unique(np.concatenate([seen, reverse]), axis=0).astype(np.int16)


def _neighbors(lattice: np.ndarray, frac_coords: np.ndarray, source: int) -> np.ndarray:
    """The edges that site ``source`` sees, int64 (l, 5)."""
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
        others, angles, reach = _voronoi_faces(points[:inner])
        if 2 * reach >= INNER_RADIUS:  # sites further away could cut the cell
            others, angles, reach = _voronoi_faces(points)
        if reach < np.inf:
            break
        if radius >= largest:
            raise BadCrystalError(
                "No neighbors can be assigned: a Voronoi cell stays open. The cell may be far too "
                "sparse or too flat."
            )
        radius = min(2 * radius, largest)
    kept = nearest_first[others[_most_probable_shell(angles)]]
    return np.column_stack([np.full(len(kept), source), sites[kept], images[kept].astype(int)])


def _voronoi_faces(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The Voronoi cell of the first point: the points behind its faces, and their solid angles.

    Args:
        points: in Å, (p, 3).

    Returns:
        Indices (f,), angles (f,), and the distance of the farthest corner in Å; where the cell is
        open it is infinite and the arrays are empty.
    """
    from scipy.spatial import QhullError, Voronoi

    is_open = np.zeros(0, int), np.zeros(0), np.inf
    try:
        voronoi = Voronoi(points)
    except QhullError:  # too few points
        return is_open
    mine = np.flatnonzero((voronoi.ridge_points == 0).any(axis=1))
    faces = [voronoi.ridge_vertices[ridge] for ridge in mine]
    if not faces or any(-1 in face for face in faces):
        return is_open
    # Each face is a fan of triangles, seen from the first point as tetrahedra.
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
    return voronoi.ridge_points[mine].sum(axis=1), angles, reach


def _most_probable_shell(angles: np.ndarray) -> np.ndarray:
    """CrystalNN's choice of the neighbors among faces by their solid angles: bool (f,).

    A coordination number's probability is the area under a unit quarter circle between the
    relative angle of its last neighbor and that of the next one.
    """
    weights = np.round(angles / angles.max(), 3)
    levels = np.append(np.unique(weights[weights > 0])[::-1], 0.0)
    area = levels * np.sqrt(1 - levels**2) + np.arcsin(levels)
    return weights >= levels[np.argmax(area[:-1] - area[1:])]


def in_cell(edges: np.ndarray) -> np.ndarray:
    """The edges that do not cross the cell's faces (image (0, 0, 0)): the paper's graph."""
    return edges[(edges[:, 2:] == 0).all(axis=1)]


def breadth_first(edges: np.ndarray, n_sites: int, source: int) -> np.ndarray:
    """Sites in breadth-first order: frontier by frontier, the lowest index first.

    A disconnected graph goes on from its lowest unvisited site.

    Args:
        edges: (m, 5) as from ``neighbor_edges``.
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
