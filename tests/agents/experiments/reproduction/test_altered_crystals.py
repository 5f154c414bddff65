"""Collections whose crystals are altered in one respect."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_agents.experiments.reproduction.altered_crystals import (
    edges_in_cell,
    shuffled_sites,
)
from crystal_gym.crystals.neighbors import neighbor_edges
from crystal_gym.crystals.skeleton import lattice_matrix


def sites(collection, row):
    """Return the elements and coordinates of a crystal, sorted."""
    n = collection.n_sites[row]
    return sorted(
        zip(
            collection.atomic_numbers[row, :n].tolist(),
            collection.frac_coords[row, :n].tolist(),
            strict=True,
        )
    )


@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_shuffled_crystal_has_the_same_sites_and_edges(toy, seed):
    shuffled = shuffled_sites(toy, seed)
    for name in ("ids", "splits", "n_sites", "parameters"):
        assert np.array_equal(getattr(shuffled, name), getattr(toy, name))
    for row, n in enumerate(toy.n_sites.tolist()):
        assert sites(shuffled, row) == sites(toy, row)
        # Edges are those of a crystal prepared in this order.
        edges = shuffled.edges[row, shuffled.edges[row, :, 0] >= 0]
        lattice = lattice_matrix(shuffled.parameters[row])
        assert np.array_equal(edges, neighbor_edges(lattice, shuffled.frac_coords[row, :n]))
        # The padding is unchanged.
        assert (shuffled.edges[row, len(edges) :] == -1).all()
        assert not shuffled.atomic_numbers[row, n:].any()


def test_each_crystal_has_its_own_permutation_determined_by_the_seed(toy):
    many = toy.take([5] * 600)
    shuffled = shuffled_sites(many)
    same = (shuffled.frac_coords[:, :, None] == many.frac_coords[:, None]).all(-1)
    # Each site has each number with equal probability: about 100 times of 600.
    assert ((same.sum(0) > 60) & (same.sum(0) < 140)).all()
    repeated, other = shuffled_sites(many), shuffled_sites(many, 1)
    assert (repeated.name, repeated.fingerprint()) == (shuffled.name, shuffled.fingerprint())
    assert len({many.name, shuffled.name, other.name}) == 3
    assert many.fingerprint() == toy.take([5] * 600).fingerprint()


def test_only_edges_inside_the_cell_remain(toy):
    inside = edges_in_cell(toy)
    assert inside.name.startswith(f"{toy.name}-in-cell-")
    for row in range(len(toy)):
        edges = toy.edges[row, toy.edges[row, :, 0] >= 0]
        expected = edges[(edges[:, 2:] == 0).all(1)]
        assert len(expected) < len(edges)
        kept = inside.edges[row, inside.edges[row, :, 0] >= 0]
        assert np.array_equal(kept, expected)
    assert np.array_equal(inside.atomic_numbers, toy.atomic_numbers)
