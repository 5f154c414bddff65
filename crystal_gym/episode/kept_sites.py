"""Partial starts: sites that have their true elements before the agent begins."""

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from crystal_gym.episode.table import EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError

STARTS = ("empty", "partial")
_DEFAULT_FRACTION = 0.5


class KeptSites:
    """The choice of the kept sites of each episode.

    Args:
        start: ``empty``: no site is kept; ``partial``: ``keep`` selects the kept sites.
        keep: A float from 0 to 1, the fraction of the n sites to keep, or site numbers. By
            default, half of the sites of a partial start are kept.

    Attributes:
        fraction: The fraction of the sites that are kept, or ``None``.
        sites: Numbers of the sites that are kept in every episode, ascending, int64 (K,).
        any: Whether an episode can have kept sites.

    Raises:
        CrystalGymError: If ``keep`` is invalid, or given for an empty start.
        UnknownNameError: If the start does not exist.
    """

    def __init__(self, start: str = "empty", keep: float | Sequence[int] | None = None) -> None:
        if start not in STARTS:
            raise UnknownNameError("start", start, STARTS)
        if start == "empty" and keep is not None:
            raise CrystalGymError(
                f"Expected no keep with start='empty', got {keep!r}. Pass start='partial'."
            )
        self.fraction: float | None = None
        self.sites = np.zeros(0, np.int64)
        if start == "partial" and (keep is None or isinstance(keep, float | np.floating)):
            self.fraction = _DEFAULT_FRACTION if keep is None else _check_fraction(float(keep))
        elif keep is not None:
            self.sites = _check_sites(keep)
        self.any = self.fraction is not None or self.sites.size > 0

    @property
    def drawn(self) -> bool:
        """Whether the kept sites are drawn for each episode."""
        return self.fraction is not None

    def check(self, table: EpisodeTable, rows: np.ndarray, start_site: Any) -> None:
        """Check that crystals have the sites to keep, and that one more remains to be filled.

        Args:
            table: The crystals.
            rows: Rows of the table, (k,).
            start_site: The first site to fill, an int or (k,), or ``None`` if it is drawn.

        Raises:
            CrystalGymError: If a crystal lacks a site or has no other site, or the start site is to
                be kept.
        """
        if not self.sites.size:
            return
        n_sites = table.n_sites[rows]
        for unsuitable, problem in (
            (n_sites <= self.sites[-1], f"the site {self.sites[-1]}"),
            (n_sites <= self.sites.size, "a site to fill in addition to these"),
        ):
            if unsuitable.any():
                row = rows[int(np.argmax(unsuitable))]
                raise CrystalGymError(
                    f"Expected crystals with {problem} for keep={self.sites.tolist()}, got "
                    f"{str(table.collection.ids[row])!r} with {table.n_sites[row]} sites. Keep "
                    "other sites, or a fraction of the sites."
                )
        if start_site is not None and np.isin(start_site, self.sites).any():
            raise CrystalGymError(
                f"Expected a start_site that is not kept, got start_site={start_site!r} and "
                f"keep={self.sites.tolist()}. Start at another site."
            )

    def draw_start_site(self, table: EpisodeTable, crystal: Any, uniform: Any) -> Any:
        """Map numbers in [0, 1) to sites that may be the first to be filled.

        Args:
            table: The crystals.
            crystal: Rows of the table, an int or (B,).
            uniform: A float or float64 (B,).

        Returns:
            Site numbers, an int or int64 (B,).
        """
        site = scale(uniform, table.n_sites[crystal] - self.sites.size)
        for kept in self.sites.tolist():
            site = site + (site >= kept)
        return site

    def draw(
        self, table: EpisodeTable, crystal: Any, start_site: Any, keys: np.ndarray
    ) -> np.ndarray:
        """Select the kept sites.

        Args:
            table: The crystals.
            crystal: Rows of the table, an int or (B,).
            start_site: The first site to fill, which is not kept, an int or (B,).
            keys: Random numbers in [0, 1), float64 (N,) or (B, N), if the sites are drawn.

        Returns:
            bool (N,) or (B, N).
        """
        sites = np.arange(table.max_sites)
        n_sites = np.asarray(table.n_sites[crystal])[..., None]
        if self.fraction is None:
            kept = np.isin(sites, self.sites)
            return np.broadcast_to(kept, (*np.shape(crystal), len(sites)))
        count = np.minimum(np.floor(self.fraction * n_sites + 0.5), n_sites - 1)
        excluded = (sites >= n_sites) | (sites == np.asarray(start_site)[..., None])
        rank = np.argsort(np.argsort(np.where(excluded, np.inf, keys), axis=-1), axis=-1)
        return rank < count


def kept_first(order: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, Any]:
    """Move the kept sites to the front of orders.

    Args:
        order: Sites in the order of filling, int64 (N,) or (B, N), padded with -1.
        kept: Whether each site is kept, bool (N,) or (B, N).

    Returns:
        The new orders, and the number of kept sites, an int or int64 (B,).
    """
    is_kept = np.take_along_axis(kept, order, axis=-1) & (order >= 0)
    group = np.where(order < 0, 2, np.where(is_kept, 0, 1))
    permutation = np.argsort(group, axis=-1, kind="stable")
    return np.take_along_axis(order, permutation, axis=-1), is_kept.sum(axis=-1)


def scale(uniform: Any, count: Any) -> Any:
    """Map numbers in [0, 1) to integers from 0 to ``count`` - 1."""
    if isinstance(uniform, np.ndarray):
        return (uniform * count).astype(np.int64)
    return int(uniform * int(count))


def _check_fraction(fraction: float) -> float:
    if not 0 <= fraction <= 1:
        raise CrystalGymError(f"Expected keep to be a fraction from 0 to 1, got {fraction}.")
    return fraction


def _check_sites(keep: Any) -> np.ndarray:
    """Return site numbers, ascending, int64 (K,)."""
    valid = isinstance(keep, Sequence | np.ndarray) and not isinstance(keep, str)
    valid = valid and all(
        isinstance(site, numbers.Integral) and not isinstance(site, bool) and int(site) >= 0
        for site in keep
    )
    if not valid or len(set(keep)) < len(keep):
        raise CrystalGymError(
            "Expected keep to be a fraction (float) from 0 to 1 or a list of different site "
            f"numbers, got {keep!r}. To keep site 1, pass [1]."
        )
    return np.array(sorted(keep), np.int64)
