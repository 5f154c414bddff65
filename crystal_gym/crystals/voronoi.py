"""Voronoi cells of the sites of a crystal."""

import itertools
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class VoronoiFaces:
    """The faces of the Voronoi cells of n points among p points.

    Attributes:
        source: The point whose cell has the face, int64 (f,), ascending.
        behind: The point behind the face, int64 (f,).
        angles: Solid angle of the face in steradians, float64 (f,).
        reach: Distance of the farthest corner of each cell in Å, (n,), infinite for an open cell.
    """

    source: np.ndarray
    behind: np.ndarray
    angles: np.ndarray
    reach: np.ndarray


def faces_of_first(points: np.ndarray, n: int) -> VoronoiFaces:
    """Compute the faces of the Voronoi cells of the first n points.

    Args:
        points: Positions in Å, (p, 3).
        n: Number of cells.
    """
    from scipy.spatial import QhullError, Voronoi

    none = np.zeros(0, np.int64)
    try:
        voronoi = Voronoi(points)
    except QhullError:  # too few points
        return VoronoiFaces(none, none, np.zeros(0), np.full(n, np.inf))
    pairs = voronoi.ridge_points
    first, second = np.flatnonzero(pairs[:, 0] < n), np.flatnonzero(pairs[:, 1] < n)
    source = np.concatenate([pairs[first, 0], pairs[second, 1]]).astype(np.int64)
    behind = np.concatenate([pairs[first, 1], pairs[second, 0]]).astype(np.int64)
    ridge = np.concatenate([first, second])
    by_source = np.argsort(source, kind="stable")
    source, behind, ridge = source[by_source], behind[by_source], ridge[by_source]
    corners = [voronoi.ridge_vertices[k] for k in ridge.tolist()]
    count = np.array([len(face) for face in corners], np.int64)
    corner = np.fromiter(itertools.chain.from_iterable(corners), np.int64, int(count.sum()))
    face_of_corner = np.repeat(np.arange(len(count)), count)
    is_open = np.zeros(n, bool)
    is_open[source[face_of_corner[corner < 0]]] = True
    is_open[np.bincount(source, minlength=n) == 0] = True

    vectors = voronoi.vertices[corner] - points[source[face_of_corner]]
    distance = np.linalg.norm(vectors, axis=1)
    reach = np.zeros(n)
    np.maximum.at(reach, source[face_of_corner], distance)
    reach[is_open] = np.inf

    # Each face is a fan of triangles, which form tetrahedra with the point: the first corner of the
    # face, and each pair of its other corners that follow each other.
    start = np.repeat(np.cumsum(count) - count, count)
    place = np.arange(len(corner)) - start
    b = np.flatnonzero((place >= 1) & (place < count[face_of_corner] - 1))
    a, c = start[b], b + 1
    volume = np.abs(np.einsum("ij,ij->i", vectors[a], np.cross(vectors[b], vectors[c])))
    opening = (
        distance[a] * distance[b] * distance[c]
        + distance[c] * np.einsum("ij,ij->i", vectors[a], vectors[b])
        + distance[b] * np.einsum("ij,ij->i", vectors[a], vectors[c])
        + distance[a] * np.einsum("ij,ij->i", vectors[b], vectors[c])
    )
    angles = np.bincount(face_of_corner[b], 2 * np.arctan2(volume, opening), len(count))
    return VoronoiFaces(source, behind, angles, reach)


def points_within(
    lattice: np.ndarray, frac_coords: np.ndarray, centers: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the periodic images of all sites within a distance of some sites of the cell.

    Args:
        lattice: Row vectors in Å, (3, 3).
        frac_coords: Fractional coordinates, (n, 3).
        centers: Numbers of the sites around which points are returned, int (c,).
        radius: Distance in Å.

    Returns:
        Positions in Å, (p, 3), and their sites and images, int64 (p, 4). The centers come first.
    """
    from scipy.spatial import KDTree

    # Images farther from the centers than the radius in the direction of an axis are left out.
    margin = radius * np.linalg.norm(np.linalg.inv(lattice), axis=0)
    low = frac_coords[centers].min(axis=0) - margin
    high = frac_coords[centers].max(axis=0) + margin
    first = np.floor(low - frac_coords.max(axis=0)).astype(int)
    last = np.ceil(high - frac_coords.min(axis=0)).astype(int)
    axes = [np.arange(a, b + 1) for a, b in zip(first, last, strict=True)]
    images = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    positions = images[:, None] + frac_coords
    image, site = np.nonzero(((positions >= low) & (positions <= high)).all(axis=2))
    coords = positions[image, site] @ lattice
    tree = KDTree(frac_coords[centers] @ lattice)
    distance, _ = tree.query(coords, distance_upper_bound=radius)
    within = np.isfinite(distance)
    rows = np.column_stack([site, images[image]])[within]
    number = np.full(len(frac_coords), len(frac_coords))
    number[centers] = np.arange(len(centers))
    in_cell = (rows[:, 1:] == 0).all(axis=1)
    centers_first = np.argsort(np.where(in_cell, number[rows[:, 0]], len(number)), kind="stable")
    return coords[within][centers_first], rows[centers_first]
