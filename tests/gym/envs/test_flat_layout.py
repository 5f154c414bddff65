"""The layout of flat observations and its inverse."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.envs.flat_layout import LONGEST_CELL, FlatLayout
from crystal_gym.episode import EpisodeTable, fill, observation_space, observe, start
from crystal_gym.errors import CrystalGymError


@pytest.fixture(scope="module")
def tables(toy):
    """Tables of cubic cells of equal sizes, of cells of several sizes, and with more room."""
    from crystal_gym import load_collection

    return [
        EpisodeTable(load_collection("goldschmidt")),
        EpisodeTable(toy),
        EpisodeTable(toy, None, 9),
    ]


def space_of(table):
    return observation_space(table.max_sites, table.max_edges, table.n_elements)


def play(table, seed, batch):
    """Return the observations of B episodes after a random number of random actions."""
    rng = np.random.default_rng(seed)
    crystal = rng.integers(len(table.n_sites), size=batch)
    state = start(
        table, crystal, table.breadth_first(crystal, rng.integers(table.n_sites[crystal]))
    )
    for _ in range(rng.integers(table.max_sites + 1)):
        fill(state, rng.integers(table.n_elements, size=batch))
    return observe(table, state)


@given(st.integers(0, 2), st.integers(0, 2**32), st.integers(1, 8), st.booleans())
def test_unflatten_inverts_flatten(tables, number, seed, batch, pairs):
    table = tables[number]
    space = space_of(table)
    layout = FlatLayout.from_space(space, pairs)
    observation = play(table, seed, batch)
    flat = layout.flatten(observation)
    assert flat.dtype == np.float32
    assert flat.shape == (batch, layout.size)
    restored = layout.unflatten(flat, observation["edges"])
    assert restored.keys() == observation.keys()
    for key, values in observation.items():
        assert np.array_equal(restored[key], values), key
        assert restored[key].dtype == space[key].dtype, key
    box = layout.space()
    for index in range(batch):
        single = {key: values[index] for key, values in observation.items()}
        assert np.array_equal(layout.flatten(single), flat[index])
        assert flat[index] in box
        assert {key: values[index] for key, values in restored.items()} in space


@given(st.integers(0, 2), st.integers(0, 2**32))
def test_blocks_have_the_documented_values(tables, number, seed):
    table = tables[number]
    layout = FlatLayout.from_space(space_of(table), pairs=True)
    observation = {key: values[0] for key, values in play(table, seed, 1).items()}
    flat = layout.flatten(observation)
    blocks = {name: flat[place] for name, place in layout.blocks.items()}
    assert list(blocks) == ["element", "focus", "frac_coords", "lattice", "pairs"]
    assert sum(map(len, blocks.values())) == layout.size
    n, v = table.max_sites, table.n_elements
    one_hot = blocks["element"].reshape(n, v + 1)
    for site, code in enumerate(observation["element"]):
        expected = np.zeros(v + 1) if code < 0 else np.eye(v + 1)[code]
        assert np.array_equal(one_hot[site], expected)
    assert np.array_equal(blocks["focus"], np.eye(n)[observation["focus"]])
    assert np.array_equal(blocks["frac_coords"], observation["frac_coords"].ravel())
    assert np.array_equal(blocks["lattice"][:3] * 8, observation["lattice"][:3])
    assert np.array_equal(blocks["lattice"][3:] * 128, observation["lattice"][3:])
    assert blocks["pairs"] == pytest.approx(shortest_edges(observation, n), rel=1e-6)


def shortest_edges(observation, n):
    """Return the inverse length of the shortest edge of each pair s ≤ t, by a loop over edges."""
    matrix = lattice_matrix(observation["lattice"])
    coords = observation["frac_coords"].astype(float)
    shortest = np.full((n, n), np.inf)
    for source, target, *image in observation["edges"]:
        if source >= 0:
            length = np.linalg.norm((coords[target] + image - coords[source]) @ matrix)
            shortest[source, target] = min(shortest[source, target], length)
    assert np.allclose(shortest, shortest.T)
    return (1 / shortest)[np.triu_indices(n)]


def test_pairs_without_edges_are_zero(tables):
    layout = FlatLayout.from_space(space_of(tables[1]), pairs=True)
    observation = play(tables[1], 0, 3) | {"edges": np.full((3, 4, 5), -1, np.int32)}
    assert not layout.flatten(observation)[:, layout.blocks["pairs"]].any()


def test_known_geometry_of_an_episode_is_broadcast(tables):
    layout = FlatLayout.from_space(space_of(tables[1]), pairs=True)
    observation = {
        key: np.stack([values, values], axis=1) for key, values in play(tables[1], 1, 4).items()
    }
    first = {key: values[:, :1] for key, values in observation.items()}
    flat = layout.flatten(observation, layout.geometry(first))
    assert flat.shape == (4, 2, layout.size)
    assert np.array_equal(flat, layout.flatten(observation))


def test_target_is_the_last_block(tables):
    space = space_of(tables[1])
    space = spaces.Dict({**space, "target": spaces.Box(-5, 5, (2,), np.float32)})
    layout = FlatLayout.from_space(space)
    target = np.array([[1.5, -2.5]], np.float32)
    flat = layout.flatten(play(tables[1], 0, 1) | {"target": target})
    assert np.array_equal(flat[:, -2:], target)
    assert np.array_equal(layout.unflatten(flat)["target"], target)
    assert layout.space().low[-2:].tolist() == [-5, -5]
    assert layout.space().high[-2:].tolist() == [5, 5]


def test_edges_are_left_out_unless_given(tables):
    layout = FlatLayout.from_space(space_of(tables[0]), pairs=True)
    assert "edges" not in layout.unflatten(layout.flatten(play(tables[0], 0, 1)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"element": np.full((1, 5), 99, np.int32)}, "codes of elements from -1 to"),
        ({"element": np.full((1, 5), -2, np.int32)}, "codes of elements from -1 to"),
        ({"element": np.zeros((1, 4), np.int32)}, r"elements of shape \(1, 5\)"),
        ({"focus": np.array([5])}, "sites in focus from 0 to 4"),
        ({"lattice": np.array([[4, 4, 600, 90, 90, 90]], np.float32)}, "up to 512 Å"),
        ({"lattice": np.array([[4, 4, np.nan, 90, 90, 90]], np.float32)}, "up to 512 Å"),
        ({"lattice": np.array([[4, 4, 4, 90, 90, 181]], np.float32)}, "angles up to 180"),
    ],
)
def test_values_outside_the_bounds_raise_an_error(tables, changes, message):
    layout = FlatLayout.from_space(space_of(tables[0]))
    with pytest.raises(CrystalGymError, match=message):
        layout.flatten(play(tables[0], 0, 1) | changes)


def test_the_largest_lattice_is_within_the_bounds(tables):
    layout = FlatLayout.from_space(space_of(tables[0]))
    lattice = np.array([[LONGEST_CELL] * 3 + [180.0] * 3], np.float32)
    assert layout.flatten(play(tables[0], 0, 1) | {"lattice": lattice})[0] in layout.space()


def test_flat_vectors_of_another_layout_raise_an_error(tables):
    layout = FlatLayout.from_space(space_of(tables[0]))
    with pytest.raises(CrystalGymError, match=f"of length {layout.size}"):
        layout.unflatten(np.zeros(layout.size + 1, np.float32))


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Dict({"focus": spaces.Discrete(2)})])
def test_other_spaces_raise_an_error(space):
    with pytest.raises(CrystalGymError, match="Dict observation space of CrystalSkeleton-v0"):
        FlatLayout.from_space(space)


def test_the_space_of_a_vector_environment_raises_an_error(tables):
    from gymnasium.vector.utils import batch_space

    with pytest.raises(CrystalGymError, match="single_observation_space"):
        FlatLayout.from_space(batch_space(space_of(tables[0]), 2))
