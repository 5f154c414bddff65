"""The prototype of a family of crystals: their common arrangement and free coordinates."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import qr

from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.errors import CrystalGymError

# Minimum mean resultant length of a site's coordinates for which they count as one position.
_CONCENTRATION = 0.5
# Reference coordinates within _SNAP of a multiple of 1/24 are rounded to it: special positions of
# the space groups are such multiples.
_SPECIAL, _SNAP = 24, 0.01
# Spread in Å or degrees below which a coordinate counts as determined by the others.
_NEGLIGIBLE = 1e-4
# Displacements in Å are scaled linearly below this value and logarithmically above.
_FINEST = 0.01


class NoPrototypeError(CrystalGymError):
    """Raised when the crystals are not variations of one prototype."""


def _wrap(frac: np.ndarray) -> np.ndarray:
    """Move differences of fractional coordinates into [-1/2, 1/2)."""
    return (frac + 0.5) % 1 - 0.5


@dataclass(frozen=True, eq=False)
class Prototype:
    """A family of crystals with n sites that differ in elements, cells and small displacements.

    The lattice parameters and displacements of a family can depend on each other, for example
    b = c = a, or be constant; d of them determine the others. The *coordinates* g of a crystal
    are these d values: standardized lattice parameters, and ``asinh(u / 0.01 Å) / 3`` of
    displacements u.

    Attributes:
        anchor: The site to which displacements are relative.
        reference: Fractional coordinates relative to the anchor, (n, 3).
        free: Indices of the d free values among the 6 lattice parameters and 3n displacements,
            int64 (d,).
        decoder: Linear map from the free values to all values, (d, 6 + 3n).
        offset: Offset of the linear map, (6 + 3n,).
        center: Means of the free lattice parameters, 0 for displacements, (d,).
        scale: Standard deviations of the free lattice parameters, 1 for displacements, (d,).
        inverts: Whether each site of the reference is a center of inversion. Then a crystal and
            the crystal with all displacements reversed are equivalent.
    """

    anchor: int
    reference: np.ndarray
    free: np.ndarray
    decoder: np.ndarray
    offset: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    inverts: bool

    @property
    def moves(self) -> np.ndarray:
        """Whether each coordinate is a displacement, bool (d,)."""
        return self.free >= 6

    @property
    def mirror(self) -> np.ndarray:
        """Factors that convert the coordinates of a crystal to those of its inversion, (d,)."""
        return np.where(self.moves, -1.0, 1.0)

    @classmethod
    def of(
        cls, n_sites: np.ndarray, frac_coords: np.ndarray, parameters: np.ndarray
    ) -> "Prototype":
        """Return the prototype of C crystals whose sites have the same order.

        Args:
            n_sites: Numbers of sites, (C,).
            frac_coords: Fractional coordinates, (C, N, 3).
            parameters: Lattice lengths in Å and angles in degrees, (C, 6).

        Raises:
            NoPrototypeError: If the numbers of sites or the positions of the sites differ.
        """
        n = int(n_sites[0])
        if (n_sites != n).any():
            raise NoPrototypeError(
                f"Expected crystals with the same number of sites, got {n_sites.min()} to "
                f"{n_sites.max()} sites. Use a collection of one prototype."
            )
        frac = np.asarray(frac_coords[:, :n], np.float64)
        parameters = np.asarray(parameters, np.float64)
        by_anchor = [_concentration(frac - frac[:, [site]]) for site in range(n)]
        anchor = int(np.argmax([concentration.min() for concentration, _ in by_anchor]))
        concentration, reference = by_anchor[anchor]
        if concentration.min() < _CONCENTRATION:
            site = int(concentration.min(1).argmin())
            raise NoPrototypeError(
                f"Expected similar positions of site {site} in all crystals, got different ones. "
                "Use a collection of one prototype whose sites have the same order."
            )
        full = np.concatenate(
            [parameters, _displacements(frac, parameters, anchor, reference)], axis=1
        )
        free, decoder, offset = _independent(full)
        chosen = full[:, free]
        moves = free >= 6
        return cls(
            anchor=anchor,
            reference=reference,
            free=free,
            decoder=decoder,
            offset=offset,
            center=np.where(moves, 0.0, chosen.mean(0)),
            scale=np.where(moves, 1.0, chosen.std(0)),
            inverts=bool((np.abs(_wrap(2 * reference)) < 1e-9).all()),
        )

    def coordinates(self, frac_coords: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        """Compute the coordinates of skeletons.

        Args:
            frac_coords: Fractional coordinates, (C, N, 3).
            parameters: Lattice lengths in Å and angles in degrees, (C, 6).

        Returns:
            Coordinates g, float64 (C, d).
        """
        chosen = self._values(frac_coords, parameters)[:, self.free]
        return np.where(
            self.moves, np.arcsinh(chosen / _FINEST) / 3, (chosen - self.center) / self.scale
        )

    def residual(self, frac_coords: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        """Compute how far skeletons are from the family of the prototype.

        Args:
            frac_coords: Fractional coordinates, (C, N, 3).
            parameters: Lattice lengths in Å and angles in degrees, (C, 6).

        Returns:
            Largest difference, in Å or degrees, between a value and the one that the free values
            determine, (C,).
        """
        full = self._values(frac_coords, parameters)
        return np.abs(full[:, self.free] @ self.decoder + self.offset - full).max(1)

    def _values(self, frac_coords: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        """Return the lattice parameters and the displacements of skeletons, (C, 6 + 3n)."""
        frac = np.asarray(frac_coords, np.float64)[:, : len(self.reference)]
        parameters = np.asarray(parameters, np.float64)
        moved = _displacements(frac, parameters, self.anchor, self.reference)
        return np.concatenate([parameters, moved], axis=1)

    def renumberings(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the exchanges of axes under which the sites of the reference are only renumbered.

        Returns:
            Pairs of a permutation of the axes, (3,), and the permutation of the sites, (n,), for
            which ``reference[sites] == reference[:, axes]``. The identity is the first.
        """
        found = []
        for axes in itertools.permutations(range(3)):
            turned = self.reference[:, list(axes)]
            same = (np.abs(_wrap(turned[:, None] - self.reference)) < _SNAP).all(-1)
            if (same.sum(1) == 1).all():
                found.append((np.array(axes), same.argmax(1)))
        return found

    def geometry(self, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute skeletons from their coordinates, the inverse of ``coordinates``.

        Args:
            coordinates: Coordinates g, (C, d).

        Returns:
            Fractional coordinates, (C, n, 3), and lattice lengths in Å and angles in degrees,
            (C, 6).
        """
        g = np.asarray(coordinates, np.float64)
        chosen = np.where(
            self.moves, np.sinh(np.clip(3 * g, -50, 50)) * _FINEST, g * self.scale + self.center
        )
        full = chosen @ self.decoder + self.offset
        parameters = full[:, :6]
        moved = full[:, 6:].reshape(len(full), -1, 3)
        inverse = np.linalg.inv(_lattices(parameters))
        return (self.reference + moved @ inverse) % 1, parameters


def _lattices(parameters: np.ndarray) -> np.ndarray:
    """Compute the row vectors of cells in Å, (C, 3, 3)."""
    # Row by row: vectorized functions round differently, which would change cached crystals.
    return np.stack([lattice_matrix(row) for row in parameters])


def _displacements(
    frac: np.ndarray, parameters: np.ndarray, anchor: int, reference: np.ndarray
) -> np.ndarray:
    """Compute the Cartesian displacements from the reference in Å, (C, 3n)."""
    moved = _wrap(frac - frac[:, [anchor]] - reference)
    return (moved @ _lattices(parameters)).reshape(len(frac), -1)


def _concentration(frac: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the concentration and the center of periodic coordinates.

    Args:
        frac: Fractional coordinates, (C, n, 3).

    Returns:
        Mean resultant lengths from 0 to 1, (n, 3), and centers, (n, 3).
    """
    mean = np.exp(2j * np.pi * frac).mean(0)
    center = np.angle(mean) / (2 * np.pi)
    # Few displacements are large, so the median is close to the undisplaced position.
    center += np.median(_wrap(frac - center), axis=0)
    special = np.round(center * _SPECIAL) / _SPECIAL
    return np.abs(mean), np.where(np.abs(center - special) < _SNAP, special, center) % 1


def _independent(full: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Select columns that determine all columns linearly.

    Args:
        full: All lattice parameters and displacements, (C, q).

    Returns:
        Indices of the d selected columns, their linear map to all columns, (d, q), and its offset,
        (q,).
    """
    mean = full.mean(0)
    parts: Any = qr(full - mean, mode="economic", pivoting=True)
    _, triangle, order = parts
    size = np.abs(np.diag(triangle)) / np.sqrt(len(full))
    rank = max(1, int((size > _NEGLIGIBLE).sum()))
    free = np.sort(order[:rank])
    decoder = np.linalg.lstsq((full - mean)[:, free], full - mean, rcond=None)[0]
    return free, decoder, mean - mean[free] @ decoder
