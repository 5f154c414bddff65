"""The start states of the episodes of datasets and evaluations: start sites and kept sites."""

from collections.abc import Sequence

import numpy as np

from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.episode import EpisodeTable
from crystal_gym.episode.kept_sites import KeptSites, kept_first
from crystal_gym.errors import CrystalGymError


def rows_of_split(collection: CrystalCollection, split: str) -> np.ndarray:
    """Return the rows of the crystals in a split, int64 (R,).

    Raises:
        UnknownNameError: If the split does not exist.
        CrystalGymError: If it has no crystals.
    """
    rows = collection.in_split(split)
    if not len(rows):
        raise CrystalGymError(
            f"Expected crystals in the split {split!r} of {collection.name!r}, got no crystals. "
            "Choose another split."
        )
    return rows


class StartStates:
    """The start sites of every crystal, and the sites that are kept in each episode.

    A seed gives the same start states in datasets and in evaluations, whatever their split.

    Args:
        table: The C crystals.
        start: ``empty``: all sites are empty; ``partial``: the kept sites have their true elements
            from the start.
        keep: The kept sites of a partial start, as in the environment: a fraction (float) or site
            numbers (default: 0.5).
        limit: Largest number of start sites for each crystal.
        seed: Seed of the start sites and of the kept sites.

    Attributes:
        table: The crystals.
        start_sites: Start sites as from ``choose_start_sites``, int64 (C, S), padded with -1. They
            are sites that the agent fills.

    Raises:
        CrystalGymError: If ``keep`` is invalid or given for an empty start, ``limit`` is below 1 or
            ``seed`` is below 0.
        UnknownNameError: If the start does not exist.
    """

    def __init__(
        self,
        table: EpisodeTable,
        start: str = "empty",
        keep: float | Sequence[int] | None = None,
        *,
        limit: int = 5,
        seed: int = 0,
    ) -> None:
        self.table = table
        self._kept = KeptSites(start, keep)
        sites = choose_start_sites(table.n_sites - self._kept.sites.size, limit, seed)
        for site in self._kept.sites:
            sites = sites + (sites >= site)
        self.start_sites = sites
        # The sum of two uniform numbers modulo 1 is uniform: every crystal and every start site has
        # keys of its own, without an array of the size of their product.
        rng = np.random.default_rng([seed, 1])
        n_keys = table.max_sites if self._kept.drawn else 0
        self._crystal_keys = rng.random((len(table.n_sites), n_keys))
        self._site_keys = rng.random((table.max_sites, n_keys))

    def start_sites_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the start sites of some crystals, int64 (C, S); -1 for all other crystals.

        They are drawn for all crystals, so those of a crystal do not depend on the split.
        """
        chosen = np.full_like(self.start_sites, -1)
        chosen[rows] = self.start_sites[rows]
        return chosen

    def check(self, rows: np.ndarray) -> None:
        """Check that crystals have the sites to keep, and that one more remains to be filled.

        Args:
            rows: Rows of the table, (k,).

        Raises:
            CrystalGymError: If a crystal lacks a site or has no other site.
        """
        self._kept.check(self.table, rows, None)

    def orders(
        self, crystal: np.ndarray, start_site: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the orders of filling and the numbers of kept sites of B episodes.

        Args:
            crystal: Rows of the table, int64 (B,).
            start_site: The first site that the agent fills, int64 (B,).

        Returns:
            Sites, the kept sites first, then breadth-first from the start site, int64 (B, N),
            padded with -1; and the number of kept sites, int64 (B,), or ``None`` for empty starts.
        """
        order = self.table.breadth_first(crystal, start_site)
        if not self._kept.any:
            return order, None
        keys = (self._crystal_keys[crystal] + self._site_keys[start_site]) % 1
        return kept_first(order, self._kept.draw(self.table, crystal, start_site, keys))


def make_generator(seed: int) -> np.random.Generator:
    """Return a random generator with this seed.

    Raises:
        CrystalGymError: If the seed is below 0.
    """
    if seed < 0:
        raise CrystalGymError(f"Expected a seed of 0 or more, got {seed}. Pass another seed.")
    return np.random.default_rng(seed)


def choose_start_sites(n_sites: np.ndarray, limit: int = 5, seed: int = 0) -> np.ndarray:
    """Choose up to ``limit`` start sites for each of C crystals.

    A crystal with at most ``limit`` sites starts from all of them, a larger one from a random
    sample. With the same seed, the sites chosen under a smaller limit are a subset of those chosen
    under a larger one.

    Args:
        n_sites: Number of sites of each crystal, int (C,).
        limit: Largest number of start sites for each crystal, 1 or more.
        seed: Seed of the sample.

    Returns:
        Start sites in ascending order, int64 (C, limit), padded with -1 at the end.

    Raises:
        CrystalGymError: If ``limit`` is below 1 or ``seed`` is below 0.
    """
    if limit < 1:
        raise CrystalGymError(
            f"Expected at least one start site for each crystal, got {limit}. Set the number of "
            "start sites or trajectories to 1 or more."
        )
    rng = make_generator(seed)
    n_sites = np.asarray(n_sites)
    width = max(int(n_sites.max(initial=0)), limit)
    keys = rng.random((len(n_sites), width))
    keys[np.arange(width) >= n_sites[:, None]] = np.inf
    chosen = np.argsort(keys, axis=1)[:, :limit]
    # Padding gets the value `width`, which sorts after every site, and then becomes -1.
    chosen = np.sort(np.where(chosen < n_sites[:, None], chosen, width), axis=1)
    return np.where(chosen < width, chosen, -1)
