"""Start sites and kept sites of episodes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_datasets import choose_start_sites
from crystal_datasets.start_states import StartStates
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError


def _episodes(states, rows):
    place, column = np.nonzero(states.start_sites[rows] >= 0)
    return rows[place], states.start_sites[rows][place, column]


@given(seed=st.integers(0, 99), limit=st.integers(1, 6), keep=st.floats(0, 1))
def test_orders_have_the_kept_sites_first_and_then_the_start_site(toy, seed, limit, keep):
    table = EpisodeTable(toy)
    states = StartStates(table, "partial", keep, limit=limit, seed=seed)
    np.testing.assert_array_equal(
        states.start_sites, choose_start_sites(table.n_sites, limit, seed)
    )
    crystal, start_site = _episodes(states, np.arange(len(toy)))
    order, n_kept = states.orders(crystal, start_site)
    n_sites = table.n_sites[crystal]
    expected = np.minimum(np.floor(keep * n_sites + 0.5), n_sites - 1)
    assert n_kept.tolist() == expected.tolist()
    assert order[np.arange(len(order)), n_kept].tolist() == start_site.tolist()
    for sites, n in zip(order.tolist(), n_sites, strict=True):
        assert sorted(sites[:n]) == list(range(n))
    half = len(crystal) // 2
    np.testing.assert_array_equal(states.orders(crystal[half:], start_site[half:])[0], order[half:])


@given(seed=st.integers(0, 99), sites=st.sets(st.integers(0, 2), max_size=2))
def test_the_given_sites_are_kept_and_the_start_sites_are_distinct_others(toy, seed, sites):
    table = EpisodeTable(toy)
    rows = np.flatnonzero(toy.n_sites > 3)
    states = StartStates(table, "partial", sorted(sites), limit=4, seed=seed)
    states.check(rows)
    for row in rows:
        chosen = states.start_sites[row][states.start_sites[row] >= 0].tolist()
        assert len(set(chosen)) == len(chosen) == min(4, toy.n_sites[row] - len(sites))
        assert not sites & set(chosen)
    crystal, start_site = _episodes(states, rows)
    order, n_kept = states.orders(crystal, start_site)
    if n_kept is not None:
        assert set(n_kept.tolist()) == {len(sites)}
        assert all(set(row[: len(sites)]) == sites for row in order.tolist())


def test_every_site_is_kept_equally_often(toy):
    table = EpisodeTable(toy)
    row = int(np.argmax(toy.n_sites))
    n = int(toy.n_sites[row])
    counts = np.zeros(n)
    for seed in range(400):
        states = StartStates(table, "partial", 0.5, limit=1, seed=seed)
        start_site = states.start_sites[[row], 0]
        order, n_kept = states.orders(np.array([row]), start_site)
        counts[order[0, : n_kept[0]]] += 1
    mean = 400 * round(0.5 * n) / n
    assert np.abs(counts - mean).max() < 5 * np.sqrt(mean)


def test_sites_that_a_crystal_lacks_are_rejected(toy):
    states = StartStates(EpisodeTable(toy), "partial", [7])
    with pytest.raises(CrystalGymError, match="crystals with the site 7"):
        states.check(np.arange(len(toy)))
