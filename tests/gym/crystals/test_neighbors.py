"""Test neighbor edges against pymatgen's CrystalNN."""

import numpy as np
import pytest
from hypothesis import given, reject, settings
from strategies import cells

from crystal_gym.crystals.neighbors import (
    in_cell,
    neighbor_edges,
)
from crystal_gym.crystals.voronoi import VoronoiFaces
from crystal_gym.errors import BadCrystalError


def crystal_nn_edges(lattice, frac_coords):
    """Compute the same edges with pymatgen, site by site."""
    from pymatgen.analysis.local_env import CrystalNN
    from pymatgen.core import Structure

    crystal_nn = CrystalNN(distance_cutoffs=None, x_diff_weight=-1, porous_adjustment=False)
    structure = Structure(lattice, ["H"] * len(frac_coords), frac_coords)
    edges = set()
    for source in range(len(structure)):
        for neighbor in crystal_nn.get_nn_info(structure, source):
            target, (i, j, k) = neighbor["site_index"], neighbor["image"]
            edges |= {(source, target, i, j, k), (target, source, -i, -j, -k)}
    return np.array(sorted(edges))


@settings(max_examples=25)
@given(cells(max_sites=12))
def test_edges_equal_those_of_crystal_nn(cell):
    try:
        expected = crystal_nn_edges(*cell)
    except ValueError:  # too few sites in the sphere of pymatgen, which does not grow
        reject()
    assert np.array_equal(neighbor_edges(*cell), expected)


@pytest.mark.real
def test_edges_of_real_crystals_equal_those_of_crystal_nn(perov5):
    for row in range(0, len(perov5), 40):
        skeleton = perov5.skeleton(row)
        assert np.array_equal(
            skeleton.edges, crystal_nn_edges(skeleton.lattice, skeleton.frac_coords)
        )


@settings(max_examples=25)
@given(cells())
def test_edges_are_sorted_include_their_reverse_and_reach_every_site(cell):
    lattice, frac_coords = cell
    edges = neighbor_edges(lattice, frac_coords)
    assert edges.dtype == np.int16
    rows = [tuple(edge) for edge in edges.tolist()]
    assert rows == sorted(set(rows))
    assert {(t, s, -i, -j, -k) for s, t, i, j, k in rows} == set(rows)
    assert set(edges[:, 0].tolist()) == set(range(len(frac_coords)))
    # A site can be a neighbor of its periodic images but not of itself.
    assert not any(s == t and (i, j, k) == (0, 0, 0) for s, t, i, j, k in rows)
    inside = in_cell(edges)
    assert set(map(tuple, inside.tolist())) == {row for row in rows if row[2:] == (0, 0, 0)}


def test_coordination_numbers_of_simple_cubic_and_perovskite():
    simple = neighbor_edges(np.eye(3) * 3.0, np.zeros((1, 3)))
    assert {tuple(edge[2:]) for edge in simple.tolist()} == {
        (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)
    }  # fmt: skip
    sites = np.array([[0, 0, 0], [1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    edges = neighbor_edges(np.eye(3) * 3.9, sites)
    assert np.bincount(edges[:, 0]).tolist() == [12, 6, 6, 6, 6]


def test_search_sphere_grows_until_the_voronoi_cell_is_closed():
    edges = neighbor_edges(np.diag([3.0, 3.0, 40.0]), np.zeros((1, 3)))
    assert {tuple(edge[2:]) for edge in edges.tolist()} == {
        (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)
    }  # fmt: skip


def test_open_voronoi_cell_raises_an_error(monkeypatch):
    from crystal_gym.crystals import neighbors

    none = np.zeros(0, int)
    is_open = VoronoiFaces(none, none, np.zeros(0), np.array([np.inf]))
    monkeypatch.setattr(neighbors, "faces_of_first", lambda *_: is_open)
    with pytest.raises(BadCrystalError, match="closed Voronoi cell around site 0"):
        neighbor_edges(np.eye(3) * 4, np.zeros((1, 3)))
