"""The arrangement that all crystals of a family share, and the coordinates that are left free."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import qr

from crystal_gym.errors import CrystalGymError

# Smallest mean resultant length of a site's coordinates for which they count as one place.
_CONCENTRATION = 0.5
# A reference coordinate this close to a multiple of 1/24, where the special positions of the space
# groups lie, is put there.
_SPECIAL, _SNAP = 24, 0.01
# Spread in Å (or degrees) below which a coordinate is a copy of others.
_NEGLIGIBLE = 1e-4
# Å; smaller displacements enter linearly, larger ones by their logarithm.
_FINEST = 0.01


class NoPrototypeError(CrystalGymError):
    """The crystals of a collection are not variations of one arrangement."""


def _wrap(frac: np.ndarray) -> np.ndarray:
    """Fractional differences into [-1/2, 1/2)."""
    return (frac + 0.5) % 1 - 0.5


@dataclass(frozen=True, eq=False)
class Prototype:
    """Crystals of n sites that differ by elements, lattice parameters and small displacements.

    The parameters and displacements of such a family depend on each other (b = c = a, nothing
    moves along y, ...); d of them tell all. A crystal's *coordinates* g are these d, lattice
    parameters standardised, displacements by ``asinh(u / 0.01 Å) / 3``.

    Attributes:
        anchor: the site that displacements are relative to.
        reference: fractional coordinates relative to the anchor, (n, 3).
        free: which of the 6 lattice parameters and 3n displacements are free, int (d,).
        decoder: from the free ones to all, (d, 6 + 3n).
        offset: of the decoder, (6 + 3n,).
        centre: mean of the free lattice parameters, 0 for displacements, (d,).
        scale: their standard deviation, 1 for displacements, (d,).
        inverts: whether each site is a centre of inversion of the reference, so that a crystal and
            the one with all displacements reversed are the same.
    """

    anchor: int
    reference: np.ndarray
    free: np.ndarray
    decoder: np.ndarray
    offset: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    inverts: bool

    @property
    def moves(self) -> np.ndarray:
        """Which free coordinates are displacements, bool (d,)."""
        return self.free >= 6

    @property
    def mirror(self) -> np.ndarray:
        """Signs that take a crystal's coordinates to those of its inversion, (d,)."""
        return np.where(self.moves, -1.0, 1.0)

    @classmethod
    def of(
        cls, n_sites: np.ndarray, frac_coords: np.ndarray, parameters: np.ndarray
    ) -> "Prototype":
        """The prototype of C crystals whose sites come in one order.

        Args:
            n_sites: (C,).
            frac_coords: fractional coordinates, (C, N, 3).
            parameters: lattice lengths in Å and angles in degrees, (C, 6).

        Raises:
            NoPrototypeError: numbers of sites differ, or the sites are not in the same places.
        """
        n = int(n_sites[0])
        if (n_sites != n).any():
            raise NoPrototypeError(
                f"The crystals have {n_sites.min()} to {n_sites.max()} sites; those of one "
                "prototype have all the same number."
            )
        frac = np.asarray(frac_coords[:, :n], np.float64)
        parameters = np.asarray(parameters, np.float64)
        spread = [_concentration(frac - frac[:, [site]]) for site in range(n)]
        anchor = int(np.argmax([concentration.min() for concentration, _ in spread]))
        concentration, reference = spread[anchor]
        if concentration.min() < _CONCENTRATION:
            site = int(concentration.min(1).argmin())
            raise NoPrototypeError(
                f"Site {site} lies in another place in each crystal; the crystals are not "
                "variations of one prototype with its sites in one order."
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
            centre=np.where(moves, 0.0, chosen.mean(0)),
            scale=np.where(moves, 1.0, chosen.std(0)),
            inverts=bool((np.abs(_wrap(2 * reference)) < 1e-9).all()),
        )

    def coordinates(self, frac_coords: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        """Coordinates g (C, d) of skeletons with fractional coordinates (C, n, 3)."""
        frac = np.asarray(frac_coords, np.float64)[:, : len(self.reference)]
        parameters = np.asarray(parameters, np.float64)
        moved = _displacements(frac, parameters, self.anchor, self.reference)
        chosen = np.concatenate([parameters, moved], axis=1)[:, self.free]
        return np.where(
            self.moves, np.arcsinh(chosen / _FINEST) / 3, (chosen - self.centre) / self.scale
        )

    def geometry(self, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fractional coordinates (C, n, 3) and lattice parameters (C, 6) of coordinates (C, d)."""
        g = np.asarray(coordinates, np.float64)
        chosen = np.where(
            self.moves, np.sinh(np.clip(3 * g, -50, 50)) * _FINEST, g * self.scale + self.centre
        )
        full = chosen @ self.decoder + self.offset
        parameters = full[:, :6]
        moved = full[:, 6:].reshape(len(full), -1, 3)
        inverse = np.linalg.inv(_lattices(parameters))
        return (self.reference + moved @ inverse) % 1, parameters


def _lattices(parameters: np.ndarray) -> np.ndarray:
    from crystal_gym.crystals.skeleton import lattice_matrix

    return np.stack([lattice_matrix(row) for row in parameters])


def _displacements(
    frac: np.ndarray, parameters: np.ndarray, anchor: int, reference: np.ndarray
) -> np.ndarray:
    """Cartesian displacements from the reference in Å, (C, 3n)."""
    moved = _wrap(frac - frac[:, [anchor]] - reference)
    return (moved @ _lattices(parameters)).reshape(len(frac), -1)


def _concentration(frac: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How closely coordinates (C, n, 3) gather, from 0 to 1 (n, 3), and where, (n, 3)."""
    mean = np.exp(2j * np.pi * frac).mean(0)
    place = np.angle(mean) / (2 * np.pi)
    # Most displacements are small, a few are large: the median is the undisplaced place.
    place += np.median(_wrap(frac - place), axis=0)
    special = np.round(place * _SPECIAL) / _SPECIAL
    return np.abs(mean), np.where(np.abs(place - special) < _SNAP, special, place) % 1


def _independent(full: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of (C, q) that tell the others, their linear map to all (d, q), and its offset."""
    mean = full.mean(0)
    parts: Any = qr(full - mean, mode="economic", pivoting=True)
    _, triangle, order = parts
    size = np.abs(np.diag(triangle)) / np.sqrt(len(full))
    rank = max(1, int((size > _NEGLIGIBLE).sum()))
    free = np.sort(order[:rank])
    decoder = np.linalg.lstsq((full - mean)[:, free], full - mean, rcond=None)[0]
    return free, decoder, mean - mean[free] @ decoder
