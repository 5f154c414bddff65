"""Test breadth-first orders against a simple search."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_gym.crystals import breadth_first as module
from crystal_gym.crystals.breadth_first import (
    BreadthFirstOrders,
    breadth_first,
    breadth_first_from_all,
    padded_orders,
)
from crystal_gym.errors import CrystalGymError


@st.composite
def graphs(draw):
    """Draw the edges of an undirected graph with 1 to 12 sites, connected or not."""
    n = draw(st.integers(1, 12))
    pairs = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=20))
    edges = [(a, b, 0, 0, 0) for a, b in pairs] + [(b, a, 0, 0, 0) for a, b in pairs]
    return n, np.array(edges, np.int16).reshape(-1, 5)


def simple_search(edges, n, start_site):
    """Search breadth-first with a queue and depths; each frontier is in ascending order."""
    order, depth = [], {}
    for start in [start_site, *range(n)]:
        if start in depth:
            continue
        depth[start] = 0
        queue, component = deque([start]), [start]
        while queue:
            site = queue.popleft()
            for a, b in edges[:, :2].tolist():
                if a == site and b not in depth:
                    depth[b] = depth[site] + 1
                    queue.append(b)
                    component.append(b)
        order += sorted(component, key=lambda site: (depth[site], site))
    return order


def joined(crystals):
    """Return the edges of graphs, one after the other, and their numbers of edges and sites."""
    edges = np.concatenate([edges for _, edges in crystals])
    n_edges = np.array([len(edges) for _, edges in crystals], np.int32)
    return edges, n_edges, np.array([n for n, _ in crystals])


def searched(crystals, width):
    """Return the orders of a simple search from all sites, padded with -1."""
    orders = np.full((len(crystals), width, width), -1)
    for row, (n, edges) in enumerate(crystals):
        for start_site in range(n):
            orders[row, start_site, :n] = simple_search(edges, n, start_site)
    return orders


@given(graphs())
def test_order_is_a_breadth_first_permutation(graph):
    n, edges = graph
    for start_site in range(n):
        order = breadth_first(edges, n, start_site).tolist()
        assert order[0] == start_site
        assert sorted(order) == list(range(n))
        assert order == simple_search(edges, n, start_site)


@settings(max_examples=50)
@given(st.lists(graphs(), min_size=1, max_size=6), st.integers(1, 3))
def test_orders_of_many_crystals_equal_a_simple_search(crystals, block):
    edges, n_edges, n_sites = joined(crystals)
    orders = breadth_first_from_all(edges, n_edges, n_sites)
    assert orders.dtype == np.int16
    assert np.array_equal(orders, searched(crystals, n_sites.max()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        width = n_sites.max() + block
        padded = np.concatenate(list(padded_orders(edges, n_edges, n_sites, width)))
        assert np.array_equal(padded, searched(crystals, width))


@settings(max_examples=50)
@given(
    crystals=st.lists(graphs(), min_size=1, max_size=6),
    small_cell=st.integers(1, 14),
    block=st.integers(1, 3),
    extra=st.integers(0, 3),
    seed=st.integers(0, 100),
)
def test_orders_are_the_same_for_small_and_large_cells(crystals, small_cell, block, extra, seed):
    edges, n_edges, n_sites = joined(crystals)
    width = n_sites.max() + extra
    expected = searched(crystals, width)
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SMALL_CELL", small_cell)
        patch.setattr(module, "BLOCK", block)
        orders = BreadthFirstOrders(edges, n_edges, n_sites, width)
        for _ in range(4):
            crystal = rng.integers(0, len(crystals), 5)
            start_site = rng.integers(0, n_sites[crystal])
            found = orders(crystal, start_site)
            assert (found.dtype, found.shape) == (np.int64, (5, width))
            assert np.array_equal(found, expected[crystal, start_site])
            single = orders(int(crystal[0]), int(start_site[0]))
            assert np.array_equal(single, found[0])


@pytest.mark.parametrize("small_cell", [2, 128])
@pytest.mark.parametrize("start_site", [-1, 3, 4, 100])
@pytest.mark.parametrize("crystal", [0, 1, 2])
def test_start_sites_out_of_range_raise_an_error(crystal, start_site, small_cell, monkeypatch):
    monkeypatch.setattr(module, "SMALL_CELL", small_cell)
    path = np.array([[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]], np.int16)
    orders = BreadthFirstOrders(*joined([(2, path), (3, path), (3, path)]), 3)
    with pytest.raises(CrystalGymError, match="start site"):
        orders(np.array([crystal]), np.array([start_site]))
    with pytest.raises(CrystalGymError, match="start site"):
        orders(crystal, start_site)
