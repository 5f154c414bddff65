"""Instance generators: the drawn crystals, start sites and orders."""

import numpy as np
import pytest

from crystal_gym.crystals.breadth_first import breadth_first
from crystal_gym.envs.generator import TRAVERSALS, InstanceGenerator


def test_crystals_of_the_split_and_start_sites_are_drawn_uniformly(toy):
    generator = InstanceGenerator(toy, split="train")
    crystals, orders, *_ = generator.draw(np.random.default_rng(0), 8000)
    rows, counts = np.unique(crystals, return_counts=True)
    assert rows.tolist() == toy.in_split("train").tolist()
    assert abs(counts - 2000).max() < 200
    for row in rows:
        start_sites, counts = np.unique(orders[crystals == row, 0], return_counts=True)
        assert start_sites.tolist() == list(range(toy.n_sites[row]))
        assert abs(counts / counts.sum() - 1 / toy.n_sites[row]).max() < 0.05


@pytest.mark.parametrize("traversal", TRAVERSALS)
def test_orders_visit_each_site_once(toy, traversal):
    generator = InstanceGenerator(toy, split="all", traversal=traversal, max_sites=9)
    crystals, orders, *_ = generator.draw(np.random.default_rng(0), 300)
    assert orders.shape == (300, 9)
    for row, order in zip(crystals, orders, strict=True):
        n = toy.n_sites[row]
        assert sorted(order[:n].tolist()) == list(range(n))
        assert (order[n:] == -1).all()
        if traversal == "breadth-first":
            edges = toy.skeleton(row).edges
            assert order[:n].tolist() == breadth_first(edges, n, int(order[0])).tolist()
        if traversal == "index":
            assert order[1:n].tolist() == sorted(order[1:n].tolist())


def test_random_orders_differ_between_episodes(toy):
    generator = InstanceGenerator(toy, traversal="random", start_site=0, split="all")
    _, orders, *_ = generator.draw(
        np.random.default_rng(0), 200, {"crystal": int(np.argmax(toy.n_sites))}
    )
    assert (orders[:, 0] == 0).all()
    assert len(np.unique(orders, axis=0)) > 50  # of 120
