"""Orbits of sites under symmetry operators, and sites that coincide."""

from dataclasses import dataclass

import numpy as np

from crystal_gym.crystals.skeleton import SHORTEST_DISTANCE
from crystal_gym.errors import BadCrystalError

# Images of a site that are closer than this in Å are the same site with rounded coordinates.
MERGE_DISTANCE = 0.01
# Images closer than this in Å differ by rounding in the last decimals; no notice reports them.
NOTICE_DISTANCE = 1e-4
# Images closer than this in Å are equal within the precision of floating-point numbers.
_EXACT_DISTANCE = 1e-9


@dataclass(frozen=True)
class Operators:
    """The symmetry operators of a cell, including its centering translations.

    Attributes:
        rotations: float64 (m, 3, 3); they act on column vectors of fractional coordinates.
        translations: float64 (m, 3).
    """

    rotations: np.ndarray
    translations: np.ndarray

    def __len__(self) -> int:
        return len(self.rotations)


@dataclass(frozen=True)
class Orbit:
    """The images of a site in the cell.

    Attributes:
        frac_coords: Distinct positions in [0, 1), float64 (k, 3).
        spread: The largest distance in Å between images that were merged.
    """

    frac_coords: np.ndarray
    spread: float


def site_orbit(
    position: np.ndarray, operators: Operators, lattice: np.ndarray, label: str
) -> Orbit:
    """Return the orbit of a site; move the site to the special position it is rounded from.

    Args:
        position: Fractional coordinates (3,).
        operators: The m operators of the space group.
        lattice: Row vectors in Å (3, 3).
        label: Label of the site for messages.

    Raises:
        BadCrystalError: If images are too close to be distinct and too distant to be merged.
    """
    if len(operators) == 1:
        return Orbit(_wrap(position)[None], 0.0)
    images, same, distances = _coincident_images(position, operators, lattice)
    spread = distances[same].max()
    while distances[same].max() > _EXACT_DISTANCE:
        moved = (images[same] - np.round(images[same] - position)).mean(0)
        previous = same.sum()
        images, same, distances = _coincident_images(moved, operators, lattice)
        if same.sum() <= previous and distances[same].max() > _EXACT_DISTANCE:
            raise BadCrystalError(
                f"Images of site {label!r} overlap: {distances[same].max():.4f} Å apart, and have "
                "no common special position. Write its coordinates with more decimals."
            )
        position = moved  # it can have more coincident images than before
    nearest = distances[~same].min(initial=np.inf)
    if nearest < SHORTEST_DISTANCE:
        raise BadCrystalError(
            f"Images of site {label!r} overlap: {nearest:.3f} Å apart. Expected at least "
            f"{SHORTEST_DISTANCE} Å, or at most {MERGE_DISTANCE} Å for rounded coordinates. "
            "Correct the coordinates or the space group."
        )
    images = _wrap(images)
    if same.sum() > 1:
        distances = _separations(images[:, None] - images[None], lattice)
        images = images[(distances < MERGE_DISTANCE).argmax(1) == np.arange(len(images))]
    if len(images) * same.sum() != len(operators):
        raise BadCrystalError(
            f"Expected {len(operators) / same.sum():g} images of site {label!r}, got "
            f"{len(images)}. Write its coordinates with more decimals."
        )
    return Orbit(images, float(spread))


def close_pairs(frac_coords: np.ndarray, lattice: np.ndarray, distance: float) -> np.ndarray:
    """Return the pairs of sites closer than a short distance, int64 (p, 2), first index smaller."""
    from scipy.spatial import KDTree

    if len(frac_coords) < 2:
        return np.empty((0, 2), np.int64)
    # Sphere in fractional coordinates that contains all vectors of this length.
    radius = distance / np.linalg.svd(lattice, compute_uv=False).min()
    if radius >= 0.5:
        pairs = np.stack(np.triu_indices(len(frac_coords), 1), -1)
    else:
        tree = KDTree(np.mod(frac_coords, 1.0) % 1.0, boxsize=1.0)
        pairs = tree.query_pairs(radius, output_type="ndarray")
    distances = _separations(frac_coords[pairs[:, 0]] - frac_coords[pairs[:, 1]], lattice)
    pairs = np.sort(pairs[distances < distance], axis=1)
    return pairs[np.lexsort(pairs.T[::-1])]


def separation(first: np.ndarray, second: np.ndarray, lattice: np.ndarray) -> float:
    """Return the distance in Å between two close positions."""
    return float(_separations(first - second, lattice))


def _coincident_images(
    position: np.ndarray, operators: Operators, lattice: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images (m, 3), which of them coincide with the position, and distances in Å (m,)."""
    images = operators.rotations @ position + operators.translations
    distances = _separations(images - position, lattice)
    return images, distances < MERGE_DISTANCE, distances


def _separations(differences: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Return the distances in Å of differences of fractional coordinates (..., 3).

    The distances are exact for close sites and too long for some distant ones in oblique cells.
    """
    return np.linalg.norm((differences - np.round(differences)) @ lattice, axis=-1)


def _wrap(frac_coords: np.ndarray) -> np.ndarray:
    """Move fractional coordinates into the cell."""
    return frac_coords - np.floor(frac_coords)
