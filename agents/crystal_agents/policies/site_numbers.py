"""Site numbers: where the sites of the training crystals are, and the numbers of other sites.

Some networks receive the number of a site as an input. Their training crystals number the sites in
one order, such as A, B, X1, X2, X3 in Perov-5. Another order gives wrong elements, so the sites of
a crystal are compared with those of the training crystals.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from crystal_gym.errors import BadCrystalError, SiteOrderWarning

# An axis is fixed if no site of a training crystal is farther from its mean along this axis.
_FIXED = 0.1
# Fractional distance up to which a site is at a position of the training crystals.
_TOLERANCE = 0.05
# Fraction of training crystals in which the free axes may decide wrongly between two sites.
_MOST_WRONG = 2e-3
_REMEDY = (
    "Number the sites as in the training crystals, or use a network without site numbers, such as "
    "egnn."
)


@dataclass(frozen=True)
class SitePositions:
    """The positions of the n numbered sites in the training crystals.

    *Fixed* axes are those along which each site is close to its mean in all training crystals. The
    sites are compared along them. Two sites that coincide along the fixed axes are a *pair*. The
    free axes decide which of the two is which, if all other sites agree: in Perov-5, B and X3
    differ only in x.

    Attributes:
        mean: Circular means of the fractional coordinates, float64 (n, 3).
        deviation: Largest periodic deviations from the means, float64 (n, 3).
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def from_crystals(cls, n_sites: np.ndarray, frac_coords: np.ndarray) -> "SitePositions | None":
        """Return the positions of training crystals, or None if they do not determine numbers.

        They determine them if all crystals have the same number of sites, along at least one axis
        all sites are close to their means, at most two sites coincide along these axes, and the
        free axes decide between such sites with fewer than 2 errors in 1,000 crystals.

        Args:
            n_sites: Number of sites, int (C,).
            frac_coords: Fractional coordinates, (C, N, 3), padded.
        """
        if len(n_sites) == 0 or (n_sites != n_sites[0]).any():
            return None
        frac_coords = np.asarray(frac_coords, np.float64)[:, : n_sites[0]]
        angle = np.angle(np.exp(2j * np.pi * frac_coords).mean(0))
        mean = np.round(angle / (2 * np.pi), 6) % 1
        deviation = np.abs(_periodic(frac_coords - mean)).max(0).round(6)
        positions = cls(mean, deviation)
        return positions if positions._are_decisive(frac_coords) else None

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "SitePositions":
        """Return the positions of a record of ``as_record``.

        Raises:
            ValueError: If the record is not one of positions.
        """
        if not isinstance(record, dict) or set(record) != {"mean", "deviation"}:
            raise ValueError("expected mean and deviation in site_positions")
        mean, deviation = (np.array(record[key], np.float64) for key in ("mean", "deviation"))
        has_shape = mean.ndim == 2 and mean.shape[1] == 3 and mean.shape == deviation.shape
        if not (has_shape and np.isfinite([mean, deviation]).all()):
            raise ValueError("expected finite means and deviations, (n, 3), in site_positions")
        return cls(mean, deviation)

    def as_record(self) -> dict[str, Any]:
        """Return the positions as plain values."""
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}

    @cached_property
    def fixed(self) -> np.ndarray:
        """Whether each axis is fixed, bool (3,)."""
        return self.deviation.max(0) <= _FIXED

    @cached_property
    def tolerance(self) -> float:
        """Largest fractional distance along a fixed axis at which a site is at its position."""
        apart = _distances(self.mean[:, self.fixed], self.mean[:, self.fixed])
        apart = apart[apart > _TOLERANCE]
        spread = float(self.deviation[:, self.fixed].max(initial=0))
        return min(max(2 * spread, _TOLERANCE), float(apart.min(initial=1)) / 3)

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs of sites that coincide along the fixed axes."""
        same = _distances(self.mean[:, self.fixed], self.mean[:, self.fixed]) <= _TOLERANCE
        return [(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(same, 1)), strict=True)]

    def numbers(self, frac_coords: np.ndarray) -> np.ndarray:
        """Return the sites of a crystal in the order of the training crystals.

        If the free axes do not decide between the sites of a pair, their given order is kept with a
        warning if all other sites are given in the order of the training crystals. Otherwise, the
        crystal is refused.

        Args:
            frac_coords: Fractional coordinates, (n, 3). The origin may differ from that of the
                training crystals if only one numbering fits.

        Returns:
            A permutation, int64 (n,): the site with each number.

        Raises:
            BadCrystalError: If the sites are not at the positions of the training crystals, or the
                positions do not determine their numbers.

        Warns:
            SiteOrderWarning: If the given order of two sites is used.
        """
        given = np.asarray(frac_coords, np.float64)
        self._check_count(np.array([len(given)]))
        order = self._order_along_fixed(given)
        in_order = bool((order == np.arange(len(order))).all())
        votes = [self._votes(given[None, order], i, j)[0] for i, j in self.pairs]
        for (i, j), preferences in zip(self.pairs, votes, strict=True):
            if (preferences < 0).all():
                order[[i, j]] = order[[j, i]]
            elif not (preferences > 0).all():
                doubt = (
                    f"Expected positions that determine the number of each site, got sites "
                    f"{order[i]} and {order[j]}, each of which can have number {i} or {j} of the "
                    "training crystals."
                )
                if not in_order:
                    raise BadCrystalError(f"{doubt} {_REMEDY}")
                warnings.warn(
                    f"{doubt} Their given order is used. Check that it is that of the training "
                    "crystals.",
                    SiteOrderWarning,
                    stacklevel=4,
                )
        return order

    def check(
        self, n_sites: np.ndarray, frac_coords: np.ndarray, *, free_axes: bool = True
    ) -> None:
        """Check that the sites of crystals are numbered as in the training crystals.

        Args:
            n_sites: Number of sites, int (C,).
            frac_coords: Fractional coordinates, (C, N, 3), padded.
            free_axes: Compare the sites of pairs too: of the crystals in which the free axes
                decide, most must not have them exchanged.

        Raises:
            BadCrystalError: If a site is not where the training crystals have this number.
        """
        self._check_count(n_sites)
        given = np.asarray(frac_coords, np.float64)[:, : len(self.mean)]
        residual = np.abs(_periodic(given - self.mean)[..., self.fixed])
        elsewhere = np.flatnonzero((residual > self.tolerance).any((1, 2)))
        for row in elsewhere.tolist():
            order = self._order_along_fixed(given[row])
            if (order != np.arange(len(order))).any():
                raise BadCrystalError(
                    f"Expected sites numbered as in the training crystals, got crystal {row} with "
                    f"the sites {order.tolist()} at the positions 0 to {len(order) - 1} of the "
                    f"training crystals. {_REMEDY}"
                )
        for i, j in self.pairs if free_axes else []:
            votes = self._votes(given, i, j)
            right, wrong = int((votes > 0).all(1).sum()), int((votes < 0).all(1).sum())
            if wrong > right:
                raise BadCrystalError(
                    f"Expected sites numbered as in the training crystals, got sites {i} and {j} "
                    f"exchanged in {wrong} of {len(votes)} crystals. {_REMEDY}"
                )

    def _check_count(self, n_sites: np.ndarray) -> None:
        """Raise an error if a crystal has another number of sites than the training crystals."""
        other = n_sites[n_sites != len(self.mean)]
        if other.size:
            raise BadCrystalError(
                f"Expected {len(self.mean)} sites, as in all training crystals of a network that "
                f"receives site numbers, got {other[0]}. Use a network without site numbers, such "
                "as egnn."
            )

    def _are_decisive(self, frac_coords: np.ndarray) -> bool:
        """Return whether the positions determine the numbers in the training crystals."""
        paired = [site for pair in self.pairs for site in pair]
        if not self.fixed.any() or len(paired) != len(set(paired)):
            return False
        if self.deviation[:, self.fixed].max() > self.tolerance:
            return False
        return all(
            (self._votes(frac_coords, i, j) < 0).all(1).mean() < _MOST_WRONG for i, j in self.pairs
        )

    def _order_along_fixed(self, given: np.ndarray) -> np.ndarray:
        """Return the site with each number by the fixed axes; sites of pairs in ascending order."""
        given, mean = given[:, self.fixed], self.mean[:, self.fixed]
        order = self._match(given)
        if order is not None:
            return order
        # Other origins: those that move a site to a position of the training crystals.
        shifts = (mean[:, None] - given).reshape(-1, given.shape[1])
        orders = [self._match(given + shift) for shift in shifts]
        found = {tuple(order.tolist()) for order in orders if order is not None}
        if len(found) == 1:
            return np.array(found.pop())
        reason = f"{len(found)} numberings fit" if found else "other positions"
        raise BadCrystalError(
            "Expected sites at the positions of the training crystals, whose numbers the network "
            f"receives, with the same axes and origin: {self._describe()}; got {reason}. {_REMEDY}"
        )

    def _match(self, given: np.ndarray) -> np.ndarray | None:
        """Match sites with positions along the fixed axes; return None if a site is too far."""
        distances = _distances(self.mean[:, self.fixed], given)
        _, order = linear_sum_assignment(distances)
        if (distances[np.arange(len(order)), order] > self.tolerance).any():
            return None
        for pair in self.pairs:
            order[list(pair)] = np.sort(order[list(pair)])
        return order

    def _votes(self, frac_coords: np.ndarray, i: int, j: int) -> np.ndarray:
        """Return how much each other site prefers the order (i, j) to (j, i), (C, n - 2).

        A site k compares the positions of i and j relative to its own, along the free axes, with
        their means.
        """
        free = ~self.fixed
        others = [k for k in range(len(self.mean)) if k not in (i, j)]

        def agreement(site: int, number: int) -> np.ndarray:
            relative = frac_coords[:, [site]] - frac_coords[:, others]
            expected = self.mean[number] - self.mean[others]
            return np.cos(2 * np.pi * (relative - expected)[..., free]).sum(-1)

        kept = agreement(i, i) + agreement(j, j)
        return kept - agreement(i, j) - agreement(j, i)

    def _describe(self) -> str:
        """Return the mean positions, with * along free axes, for messages."""
        rows = np.where(self.fixed, self.mean.round(3).astype(str), "*")
        return ", ".join(f"({', '.join(row)})" for row in rows)


def site_positions_record(n_sites: np.ndarray, frac_coords: np.ndarray) -> dict[str, Any] | None:
    """Return the record of the positions of numbered sites, if they determine the numbers.

    Args:
        n_sites: Number of sites of the training crystals, int (C,).
        frac_coords: Fractional coordinates, (C, N, 3), padded.
    """
    positions = SitePositions.from_crystals(n_sites, frac_coords)
    return None if positions is None else positions.as_record()


def _periodic(difference: np.ndarray) -> np.ndarray:
    """Return fractional differences to the nearest image, in [-0.5, 0.5]."""
    return difference - np.round(difference)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the largest periodic difference along an axis between all positions, (n, m)."""
    return np.abs(_periodic(first[:, None] - second)).max(-1, initial=0)
