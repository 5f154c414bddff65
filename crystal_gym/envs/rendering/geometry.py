"""Positions of drawn sites and bonds, and their perspective projection."""

from collections.abc import Iterator

import numpy as np

from crystal_gym.crystals.skeleton import Skeleton

# Sites within this fractional distance of a face of the cell are repeated on the opposite face.
_FACE_DISTANCE = 0.12
# Azimuth and elevation of the camera in degrees; its distance in units of the cell's size.
_AZIMUTH, _ELEVATION, _DISTANCE = 22.0, 14.0, 5.0
# Sphere radius in units of the shortest neighbor distance.
_RADIUS = 0.24

# Fractional coordinates of the eight corners of a cell, (8, 3).
CORNERS = np.array(list(np.ndindex(2, 2, 2)))


class Camera:
    """Perspective projection of a cell: x to the right, y up, depth toward the viewer.

    Args:
        lattice: Lattice vectors as rows, in Å, (3, 3).

    Attributes:
        rotation: From Cartesian coordinates to right, up and depth, (3, 3).
        center: Center of the cell in Å, (3,).
        size: Distance from the center to the farthest corner, in Å.
    """

    def __init__(self, lattice: np.ndarray) -> None:
        azimuth, elevation = np.radians(_AZIMUTH), np.radians(_ELEVATION)
        right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
        depth = np.array(
            [
                np.cos(azimuth) * np.cos(elevation),
                np.sin(azimuth) * np.cos(elevation),
                np.sin(elevation),
            ]
        )
        self.rotation = np.stack([right, np.cross(depth, right), depth])
        self.center = lattice.sum(axis=0) / 2
        self.size = np.linalg.norm(CORNERS @ lattice - self.center, axis=1).max()

    def project(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Project Cartesian positions in Å, (m, 3).

        Returns:
            Points in the drawing (m, 2), depths from -1 (far) to 1 (near), (m,), and scales (m,).
        """
        rotated = (positions - self.center) @ self.rotation.T
        depth = rotated[:, 2] / self.size
        scale = _DISTANCE / (_DISTANCE - depth)
        return rotated[:, :2] * scale[:, None], depth, scale


def periodic_copies(frac_coords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find all copies of the sites that are in the cell or near its faces.

    Args:
        frac_coords: Fractional coordinates, (n, 3).

    Returns:
        Site numbers (m,) and shifts in cells (m, 3).
    """
    shifts = np.array(list(np.ndindex(3, 3, 3))) - 1
    shifted = frac_coords[:, None] + shifts
    near = (shifted > -_FACE_DISTANCE) & (shifted < 1 + _FACE_DISTANCE)
    sites, indices = np.nonzero(near.all(axis=2))
    return sites, shifts[indices]


def find_bonds(
    skeleton: Skeleton, sites: np.ndarray, shifts: np.ndarray
) -> Iterator[tuple[int, int]]:
    """Yield each pair of periodic copies that a neighbor edge connects, once.

    Args:
        skeleton: The geometry.
        sites: Site numbers of the copies, (m,).
        shifts: Shifts of the copies in cells, (m, 3).
    """
    copies = {
        (site, *shift): index
        for index, (site, shift) in enumerate(zip(sites.tolist(), shifts.tolist(), strict=True))
    }
    for (site, *shift), first in copies.items():
        for _, target, *image in skeleton.edges[skeleton.edges[:, 0] == site].tolist():
            second = copies.get((target, *(a + b for a, b in zip(shift, image, strict=True))))
            if second is not None and first < second:
                yield first, second


def sphere_radius(skeleton: Skeleton) -> float:
    """Return the radius of the drawn spheres in Å."""
    lengths = np.linalg.norm(skeleton.edge_vectors, axis=1)
    shortest = lengths.min() if lengths.size else skeleton.parameters[:3].min()
    return _RADIUS * float(shortest)
