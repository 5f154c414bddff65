"""Permutations of sites under a skeleton's own symmetry."""

import itertools
import warnings

import numpy as np
import pytest
import spglib
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.crystals.symmetry import site_permutations

PEROVSKITE = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
CUBIC = 4 * np.eye(3)
IDENTITY = [[0, 1, 2, 3, 4]]


def distances(lattice, frac_coords):
    """Between any two sites, over all images, sorted: (n, n, 27)."""
    images = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    apart = frac_coords[:, None] - frac_coords
    apart = (apart - np.round(apart))[:, :, None] + images
    return np.sort(np.linalg.norm(apart @ lattice, axis=-1))


@st.composite
def skeletons(draw):
    """Cells of all shapes, with sites on a grid, so that symmetry is frequent; and an offset."""
    a, b = draw(st.sampled_from([3.0, 4.0])), draw(st.sampled_from([3.0, 5.0]))
    angles = draw(st.sampled_from([(90, 90, 90), (90, 90, 120), (90, 100, 90), (80, 95, 105)]))
    lattice = lattice_matrix(np.array([a, a, b, *angles]))
    cells = draw(st.lists(st.integers(0, 26), min_size=1, max_size=8, unique=True))
    grid = np.array(list(itertools.product((0, 1 / 3, 1 / 2), repeat=3)))
    return lattice, grid[cells] + np.array(draw(st.tuples(*[st.floats(0, 1)] * 3)))


def test_the_three_anions_of_an_ideal_perovskite_are_equal_and_the_cations_are_not():
    expected = [[0, 1, *x] for x in itertools.permutations((2, 3, 4))]
    assert site_permutations(CUBIC, PEROVSKITE).tolist() == expected


@pytest.mark.parametrize(("tolerance", "number"), [(0.01, 2), (0.5, 6)])
def test_a_displacement_along_x_leaves_the_two_anions_beside_it_equal(tolerance, number):
    displaced = PEROVSKITE + np.array([0, 0.05, 0, 0, 0])[:, None] * [1, 0, 0]
    found = site_permutations(CUBIC, displaced, tolerance)
    assert len(found) == number
    assert [0, 1, 3, 2, 4] in found.tolist()


def test_translations_within_a_cell_that_is_not_primitive_count():
    sites = np.array([[0, 0, 0], [0.5, 0, 0], [0.25, 0.5, 0.5], [0.75, 0.5, 0.5]])
    found = site_permutations(np.diag([8.0, 4.0, 5.0]), sites).tolist()
    assert [1, 0, 3, 2] in found
    assert [0, 1, 3, 2] in found  # the mirror at x = 0
    assert [2, 3, 1, 0] in found  # body-centred: all sites are alike


def test_sites_in_general_position_have_only_the_identity_but_two_are_each_others_inverse():
    rng = np.random.default_rng(0)
    lattice = lattice_matrix(np.array([4.1, 5.2, 6.3, 80, 95, 107]))
    for n, expected in ((1, [[0]]), (2, [[0, 1], [1, 0]]), (3, [[0, 1, 2]]), (6, [[*range(6)]])):
        assert site_permutations(lattice, rng.random((n, 3))).tolist() == expected


@given(skeletons())
def test_permutations_are_a_group_and_keep_all_distances(skeleton):
    found = site_permutations(*skeleton)
    n = len(skeleton[1])
    as_set = {tuple(permutation) for permutation in found.tolist()}
    assert found[0].tolist() == list(range(n))
    assert len(as_set) == len(found)
    assert (np.sort(found, 1) == np.arange(n)).all()
    for one in found:
        assert tuple(np.argsort(one).tolist()) in as_set
        assert {tuple(one[other].tolist()) for other in found} == as_set
    apart = distances(*skeleton)
    for permutation in found:
        assert apart[permutation][:, permutation] == pytest.approx(apart, abs=1e-6)


@given(skeletons(), st.randoms(use_true_random=False))
def test_other_names_of_the_sites_conjugate_the_permutations(skeleton, random):
    lattice, sites = skeleton
    order = list(range(len(sites)))
    random.shuffle(order)
    # Site i of the new skeleton is site order[i] of the old one.
    renamed = site_permutations(lattice, sites[order])
    back = np.empty((len(renamed), len(order)), int)
    back[:, order] = np.array(order)[renamed]
    assert sorted(back.tolist()) == site_permutations(lattice, sites).tolist()


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_almost_symmetric_sites_have_a_group_within_the_tolerance(seed, noise, tolerance):
    rng = np.random.default_rng(seed)
    sites = PEROVSKITE + rng.uniform(-noise, noise, (5, 3)) / 4
    found = site_permutations(CUBIC, sites, tolerance)
    as_set = {tuple(permutation) for permutation in found.tolist()}
    assert {tuple(a[b].tolist()) for a in found for b in found} == as_set
    # Two sites moved by up to the tolerance each are put on two others.
    apart = distances(CUBIC, sites)[..., 0]
    for permutation in found:
        change = np.abs(apart[permutation][:, permutation] - apart)
        assert change.max() <= 2 * tolerance + 1e-9


def warns_and_finds_nothing(*_args, **_keywords):
    warnings.warn("failures will be exceptions", DeprecationWarning, stacklevel=2)


def raises(*_args, **_keywords):
    raise spglib.SpglibError("too close distance between atoms")


@pytest.mark.parametrize("failure", [warns_and_finds_nothing, raises])
def test_where_no_space_group_is_found_there_is_the_identity(monkeypatch, failure):
    monkeypatch.setattr(spglib, "get_symmetry", failure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert site_permutations(CUBIC, PEROVSKITE).tolist() == IDENTITY


def test_a_tolerance_beyond_the_distances_of_the_sites_is_made_smaller():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(site_permutations(CUBIC, PEROVSKITE, 5.0)) == 6
        assert site_permutations(CUBIC, PEROVSKITE, 1000.0).tolist() == IDENTITY


def test_operations_that_move_sites_too_far_are_not_believed(monkeypatch):
    def wrong(*_args, symprec):
        half = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]])
        return {"rotations": np.array([np.eye(3, dtype=int)] * 2), "translations": half}

    monkeypatch.setattr(spglib, "get_symmetry", wrong)
    assert site_permutations(CUBIC, PEROVSKITE).tolist() == IDENTITY


@pytest.mark.real
def test_perovskites_exchange_their_anions_alone(perov5):
    lattices = lattice_matrix(perov5.parameters)
    allowed = [{(0, 1, 2, 3, 4)}, {(0, 1, 2, 3, 4), (0, 1, 3, 2, 4)}]
    allowed.append({(0, 1, *x) for x in itertools.permutations((2, 3, 4))})
    counts = [0, 0, 0]
    for row in perov5.in_split("test").tolist():
        found = site_permutations(lattices[row], perov5.frac_coords[row])
        counts[allowed.index({tuple(p) for p in found.tolist()})] += 1
    # Most are displaced along x, where the first two anions mirror each other.
    assert counts[1] > counts[0] > counts[2] > 0
