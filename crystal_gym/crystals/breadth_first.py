"""Breadth-first orders of the sites of a crystal."""

from collections.abc import Iterator

import numpy as np

from crystal_gym.errors import CrystalGymError
from crystal_gym.utils import ragged

# The orders of cells with at most this many sites, from all start sites, are computed together and
# kept; site numbers fit in int8. A single order of a larger cell is computed when it is needed.
SMALL_CELL = 128
# Number of small cells whose orders are computed together.
BLOCK = 128

_OUT_OF_RANGE = (
    "Expected start sites of the crystals, got a negative number or one that is not below the "
    "number of sites."
)


def breadth_first(edges: np.ndarray, n_sites: int, start_site: int) -> np.ndarray:
    """Compute the breadth-first order of the sites; each frontier is in ascending order.

    In a disconnected graph, the search continues from the lowest unvisited site.

    Args:
        edges: Edges of ``crystal_gym.crystals.neighbors.neighbor_edges``, (m, 5).
        n_sites: Number of sites n.
        start_site: The first site, 0 to n - 1.

    Returns:
        A permutation of the sites, int16 (n,).
    """
    adjacent = np.zeros((n_sites, n_sites), bool)
    adjacent[edges[:, 0], edges[:, 1]] = True
    order = [start_site]
    unvisited = np.ones(n_sites, bool)
    unvisited[start_site] = False
    frontier = [start_site]
    while len(order) < n_sites:
        reached = np.flatnonzero(adjacent[frontier].any(axis=0) & unvisited)
        frontier = reached.tolist() or [int(np.flatnonzero(unvisited)[0])]
        unvisited[frontier] = False
        order += frontier
    return np.array(order, np.int16)


def breadth_first_from_all(
    edges: np.ndarray, n_edges: np.ndarray, n_sites: np.ndarray
) -> np.ndarray:
    """Compute the breadth-first orders of C crystals from all of their sites.

    The orders equal those of ``breadth_first``.

    Args:
        edges: Edges of all crystals, one after the other, (M, 5).
        n_edges: Numbers of edges, (C,).
        n_sites: Numbers of sites, (C,); N is the largest.

    Returns:
        Sites, int16 (C, N, N), padded with -1: ``orders[c, s]`` starts at site s.
    """
    c, n = len(n_sites), int(n_sites.max(initial=0))
    adjacent = np.zeros((c, n, n), np.float32)
    adjacent[np.repeat(np.arange(c), n_edges), edges[:, 0], edges[:, 1]] = 1
    is_site = np.arange(n) < n_sites[:, None]
    # Axes: crystal, start site, site.
    unvisited = is_site[:, :, None] & is_site[:, None]
    frontier = unvisited & np.eye(n, dtype=bool)
    depth = np.full((c, n, n), n)  # padding comes last
    for level in range(n):
        depth[frontier] = level
        unvisited &= ~frontier
        if not unvisited.any():
            break
        frontier = (frontier.astype(np.float32) @ adjacent > 0) & unvisited
        stuck = unvisited.any(-1) & ~frontier.any(-1)
        if stuck.any():
            frontier[(*np.nonzero(stuck), unvisited[stuck].argmax(-1))] = True
    order = np.argsort(depth * n + np.arange(n), axis=-1).astype(np.int16)
    order[~(is_site[:, :, None] & is_site[:, None])] = -1
    return order


def padded_orders(
    edges: np.ndarray, n_edges: np.ndarray, n_sites: np.ndarray, max_sites: int
) -> Iterator[np.ndarray]:
    """Yield the orders of ``breadth_first_from_all`` for some crystals at a time.

    Args:
        edges: Edges of all crystals, one after the other, (M, 5).
        n_edges: Numbers of edges, (C,).
        n_sites: Numbers of sites, (C,).
        max_sites: N, at least the largest number of sites.

    Yields:
        The orders of the next crystals, int16 (B, N, N), padded with -1.
    """
    ends = np.cumsum(n_edges)
    for first in range(0, len(n_sites), BLOCK):
        rows = slice(first, first + BLOCK)
        some_edges = edges[ends[first] - n_edges[first] : ends[rows][-1]]
        orders = breadth_first_from_all(some_edges, n_edges[rows], n_sites[rows])
        padding = max_sites - orders.shape[-1]
        yield np.pad(orders, ((0, 0), (0, padding), (0, padding)), constant_values=-1)


class BreadthFirstOrders:
    """The breadth-first orders of C crystals, computed when they are needed.

    Args:
        edges: Edges of all crystals, one after the other, (M, 5).
        n_edges: Numbers of edges, int (C,).
        n_sites: Numbers of sites, int64 (C,).
        max_sites: N, the length of the returned orders, at least the largest number of sites.
    """

    def __init__(
        self, edges: np.ndarray, n_edges: np.ndarray, n_sites: np.ndarray, max_sites: int
    ) -> None:
        self._edges = edges
        self._n_edges = n_edges
        self._first_edge = ragged.starts(n_edges)
        self._n_sites = n_sites
        self._max_sites = max_sites
        self._is_small = n_sites <= SMALL_CELL
        n_rows = np.where(self._is_small, n_sites, 0)
        # Row ``first_row[c] + s`` of the table is the order of small crystal c from site s.
        self._first_row = np.cumsum(n_rows) - n_rows
        self._table = np.zeros((int(n_rows.sum()), min(max_sites, SMALL_CELL)), np.int8)
        self._table_suffices = bool(self._is_small.all()) and max_sites <= SMALL_CELL
        self._missing = np.ones(-(-len(n_sites) // BLOCK), bool)
        self._any_missing = True

    def __call__(self, crystal: np.ndarray | int, start_site: np.ndarray | int) -> np.ndarray:
        """Return the orders of crystals from start sites.

        Args:
            crystal: Rows, an int or (B,).
            start_site: A site of each crystal, an int or (B,).

        Returns:
            Sites, int64 (N,) or (B, N), padded with -1.

        Raises:
            CrystalGymError: If a start site is not a site of its crystal.
        """
        if self._any_missing:
            self._compute_blocks(crystal // BLOCK)
        if not self._table_suffices:
            pairs = np.broadcast_arrays(crystal, start_site)
            return self._mixed_orders(*map(np.ravel, pairs)).reshape(*pairs[0].shape, -1)
        row = self._first_row[crystal] + start_site
        orders = self._table.take(row, axis=0, mode="clip").astype(np.int64)
        # The row of a start site out of range belongs to another crystal and another start site.
        is_wrong = orders[..., 0] != start_site
        if is_wrong if orders.ndim == 1 else is_wrong.any():
            raise CrystalGymError(_OUT_OF_RANGE)
        return orders

    def _mixed_orders(self, crystals: np.ndarray, start_sites: np.ndarray) -> np.ndarray:
        """Return the orders of small and large cells, int64 (B, N)."""
        n_sites = self._n_sites[crystals]
        if ((start_sites < 0) | (start_sites >= n_sites)).any():
            raise CrystalGymError(_OUT_OF_RANGE)
        orders = np.full((len(crystals), self._max_sites), -1, np.int64)
        small = self._is_small[crystals]
        rows = self._first_row[crystals[small]] + start_sites[small]
        orders[small, : self._table.shape[1]] = self._table[rows]
        for index in np.flatnonzero(~small):
            first, n = self._first_edge[crystals[index]], n_sites[index]
            edges = self._edges[first : first + self._n_edges[crystals[index]]]
            orders[index, :n] = breadth_first(edges, n, start_sites[index])
        return orders

    def _compute_blocks(self, blocks: np.ndarray | int) -> None:
        """Compute the orders of the small cells in these blocks if they are missing."""
        missing = self._missing[blocks]
        if not (missing.any() if isinstance(blocks, np.ndarray) else missing):
            return
        for block in np.unique(np.asarray(blocks)[missing]):
            rows = np.arange(block * BLOCK, min((block + 1) * BLOCK, len(self._n_sites)))
            first = self._first_row[rows[0]]
            rows = rows[self._is_small[rows]]
            edges = ragged.take(self._edges, self._n_edges, rows)
            orders = breadth_first_from_all(edges, self._n_edges[rows], self._n_sites[rows])
            is_start_site = np.arange(orders.shape[1]) < self._n_sites[rows][:, None]
            target = self._table[first : first + is_start_site.sum()]
            target[:] = -1
            target[:, : orders.shape[2]] = orders[is_start_site]
            self._missing[block] = False
        self._any_missing = bool(self._missing.any())
