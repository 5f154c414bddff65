"""Test the functions that change one episode or a batch of episodes."""

import numpy as np
import pytest

from crystal_gym.episode import EpisodeTable, Instance, fill, observe, restart, start
from crystal_gym.episode import table as table_module
from crystal_gym.errors import CrystalGymError


def test_fill_assigns_the_given_elements_to_every_crystal_of_a_batch(toy):
    table = EpisodeTable(toy)
    crystal = np.arange(len(toy))
    state = start(table, crystal, table.breadth_first(crystal, 0))
    for _ in range(toy.max_sites):
        true = table.true_elements[crystal, state.focus]
        full = fill(state, true - 1)
    assert full.all()
    assert (state.elements == table.true_elements).all()


def test_single_episodes_have_the_same_states_as_their_rows_in_a_batch(toy):
    table = EpisodeTable(toy)
    crystal = np.array([5, 11, 3])
    batch = start(table, crystal, table.breadth_first(crystal, 0))
    singles = [start(table, c, table.breadth_first(c, 0)) for c in crystal]
    for action in range(toy.n_sites[crystal].max()):
        seen = observe(table, batch)
        for row, single in enumerate(singles):
            for key, value in observe(table, single).items():
                assert np.array_equal(value, seen[key][row])
        full = fill(batch, np.full(3, action % 5))
        for row, single in enumerate(singles):
            if single.step < single.n_sites:
                assert fill(single, action % 5) == full[row]


@pytest.mark.parametrize("limit", [0, 2**25])
def test_observations_contain_the_geometry_of_the_crystals_before_and_after_a_restart(
    toy, monkeypatch, limit
):
    """Edges are taken from a padded table or, above a limit, from the edges of each crystal."""
    monkeypatch.setattr(table_module, "_EDGE_TABLE_BYTES", limit)
    table = EpisodeTable(toy, max_sites=7)
    state = start(table, np.array([1, 5, 3]), table.breadth_first(np.array([1, 5, 3]), 0))
    observe(table, state)
    others = np.array([11, 0])
    restart(table, state, np.array([0, 2]), Instance(others, table.breadth_first(others, 0)))
    seen = observe(table, state)
    for row, crystal in enumerate([11, 5, 0]):
        single = observe(table, start(table, crystal, table.breadth_first(crystal, 0)))
        skeleton = toy.skeleton(crystal)
        n, m = skeleton.n_sites, len(skeleton.edges)
        assert np.array_equal(single["edges"][:m], skeleton.edges)
        assert (single["edges"][m:] == -1).all()
        assert np.array_equal(single["frac_coords"][:n], skeleton.frac_coords.astype(np.float32))
        assert np.array_equal(single["lattice"], skeleton.parameters.astype(np.float32))
        for key, value in single.items():
            assert np.array_equal(seen[key][row], value)
            assert seen[key].dtype == np.asarray(value).dtype


@pytest.mark.parametrize("row", [0, 5])
def test_table_of_a_skeleton_has_the_arrays_of_its_row_in_a_collection(toy, row):
    expected = EpisodeTable(toy.take([row]), toy.vocabulary)
    n, m = int(toy.n_sites[row]), len(toy.skeleton(row).edges)
    table = EpisodeTable.from_skeleton(toy.skeleton(row), toy.vocabulary)
    assert (table.max_sites, table.max_edges, table.n_elements) == (n, m, len(toy.vocabulary))
    for name in ("n_sites", "lattice"):
        assert np.array_equal(getattr(table, name), getattr(expected, name))
        assert getattr(table, name).dtype == getattr(expected, name).dtype
    for name, size in (("blank", n), ("frac_coords", n), ("edges", m)):
        assert np.array_equal(getattr(table, name), getattr(expected, name)[:, :size])
        assert getattr(table, name).dtype == getattr(expected, name).dtype
    for start_site in range(n):
        order = table.breadth_first(0, start_site)
        assert np.array_equal(order, expected.breadth_first(0, start_site)[:n])
    state = start(table, np.array([0]), table.breadth_first(np.array([0]), 0))
    for _ in range(n):
        full = fill(state, np.array([1]))
    assert full.all()
    assert (state.elements == 2).all()


def test_table_of_a_skeleton_has_no_collection_and_no_true_elements(toy):
    table = EpisodeTable.from_skeleton(toy.skeleton(3), toy.vocabulary)
    with pytest.raises(CrystalGymError, match="has no collection"):
        _ = table.collection
    with pytest.raises(CrystalGymError, match="true elements are unknown"):
        _ = table.true_elements
