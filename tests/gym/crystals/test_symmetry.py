"""Test the site permutations under the symmetry of a skeleton."""

import itertools
import warnings

import numpy as np
import pytest
import spglib
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.crystals.symmetry import site_permutations
from crystal_gym.errors import SymmetryError

PEROVSKITE = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
CUBIC = 4 * np.eye(3)


def distances(lattice, frac_coords):
    """Return the distances in Å between any two sites over all images, sorted, (n, n, 27)."""
    images = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    difference = frac_coords[:, None] - frac_coords
    difference = (difference - np.round(difference))[:, :, None] + images
    return np.sort(np.linalg.norm(difference @ lattice, axis=-1))


@st.composite
def skeletons(draw):
    """Draw cells of many shapes with sites on a shifted grid, where symmetry is frequent."""
    a, b = draw(st.sampled_from([3.0, 4.0])), draw(st.sampled_from([3.0, 5.0]))
    angles = draw(st.sampled_from([(90, 90, 90), (90, 90, 120), (90, 100, 90), (80, 95, 105)]))
    lattice = lattice_matrix(np.array([a, a, b, *angles]))
    cells = draw(st.lists(st.integers(0, 26), min_size=1, max_size=8, unique=True))
    grid = np.array(list(itertools.product((0, 1 / 3, 1 / 2), repeat=3)))
    return lattice, grid[cells] + np.array(draw(st.tuples(*[st.floats(0, 1)] * 3)))


def test_ideal_perovskite_has_equivalent_anions_and_distinct_cations():
    expected = [[0, 1, *x] for x in itertools.permutations((2, 3, 4))]
    assert site_permutations(CUBIC, PEROVSKITE).tolist() == expected


@pytest.mark.parametrize(("tolerance", "number"), [(0.01, 2), (0.5, 6)])
def test_displacement_along_x_keeps_two_anions_equivalent(tolerance, number):
    displaced = PEROVSKITE + np.array([0, 0.05, 0, 0, 0])[:, None] * [1, 0, 0]
    found = site_permutations(CUBIC, displaced, tolerance)
    assert len(found) == number
    assert [0, 1, 3, 2, 4] in found.tolist()


def test_translations_of_a_centered_cell_are_included():
    sites = np.array([[0, 0, 0], [0.5, 0, 0], [0.25, 0.5, 0.5], [0.75, 0.5, 0.5]])
    found = site_permutations(np.diag([8.0, 4.0, 5.0]), sites).tolist()
    assert [1, 0, 3, 2] in found
    assert [0, 1, 3, 2] in found  # the mirror at x = 0
    assert [2, 3, 1, 0] in found  # body-centered: all sites are equivalent


def test_only_two_sites_in_general_position_are_equivalent_by_inversion():
    rng = np.random.default_rng(0)
    lattice = lattice_matrix(np.array([4.1, 5.2, 6.3, 80, 95, 107]))
    for n, expected in ((1, [[0]]), (2, [[0, 1], [1, 0]]), (3, [[0, 1, 2]]), (6, [[*range(6)]])):
        assert site_permutations(lattice, rng.random((n, 3))).tolist() == expected


@given(skeletons())
def test_permutations_form_a_group_and_preserve_all_distances(skeleton):
    found = site_permutations(*skeleton)
    n = len(skeleton[1])
    as_set = {tuple(permutation) for permutation in found.tolist()}
    assert found[0].tolist() == list(range(n))
    assert len(as_set) == len(found)
    assert (np.sort(found, 1) == np.arange(n)).all()
    for permutation in found:
        assert tuple(np.argsort(permutation).tolist()) in as_set
        assert {tuple(permutation[other].tolist()) for other in found} == as_set
    before = distances(*skeleton)
    for permutation in found:
        assert before[permutation][:, permutation] == pytest.approx(before, abs=1e-6)


@given(skeletons(), st.randoms(use_true_random=False))
def test_renumbering_the_sites_conjugates_the_permutations(skeleton, random):
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
def test_permutations_of_almost_symmetric_sites_form_a_group(seed, noise, tolerance):
    rng = np.random.default_rng(seed)
    sites = PEROVSKITE + rng.uniform(-noise, noise, (5, 3)) / 4
    found = site_permutations(CUBIC, sites, tolerance)
    as_set = {tuple(permutation) for permutation in found.tolist()}
    assert {tuple(a[b].tolist()) for a in found for b in found} == as_set
    # Each of two sites is mapped to another with a deviation of up to the tolerance.
    before = distances(CUBIC, sites)[..., 0]
    for permutation in found:
        change = np.abs(before[permutation][:, permutation] - before)
        assert change.max() <= 2 * tolerance + 1e-9


def deprecated_failure(*_args, **_keywords):
    warnings.warn(
        "Set OLD_ERROR_HANDLING to false and catch the errors directly.",
        DeprecationWarning,
        stacklevel=2,
    )


def spglib_error(*_args, **_keywords):
    raise spglib.SpglibError("too close distance between atoms")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (deprecated_failure, "spglib finds no space group"),
        (spglib_error, "spglib fails with too close distance between atoms"),
    ],
)
def test_error_gives_the_reason_for_a_missing_space_group(monkeypatch, failure, reason):
    monkeypatch.setattr(spglib, "get_symmetry", failure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SymmetryError, match=rf"skeleton with 5 sites, got none \(.*{reason}"):
            site_permutations(CUBIC, PEROVSKITE)


def test_other_warnings_of_spglib_are_not_suppressed(monkeypatch):
    def warn(*_args, **_keywords):
        warnings.warn("another interface", DeprecationWarning, stacklevel=2)

    monkeypatch.setattr(spglib, "get_symmetry", warn)
    with (
        pytest.warns(DeprecationWarning, match="another interface"),
        pytest.raises(SymmetryError),
    ):
        site_permutations(CUBIC, PEROVSKITE)


def test_tolerance_beyond_the_site_distances_is_halved_until_a_group_is_found():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(site_permutations(CUBIC, PEROVSKITE, 5.0)) == 6
        with pytest.raises(SymmetryError, match="1000 Å: spglib finds no space group; 500 Å"):
            site_permutations(CUBIC, PEROVSKITE, 1000.0)


def test_operations_that_move_sites_beyond_the_tolerance_are_rejected(monkeypatch):
    def wrong(*_args, symprec):
        half = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]])
        return {"rotations": np.array([np.eye(3, dtype=int)] * 2), "translations": half}

    monkeypatch.setattr(spglib, "get_symmetry", wrong)
    with pytest.raises(SymmetryError, match="an operation moves a site to a place 2 Å from"):
        site_permutations(CUBIC, PEROVSKITE)


@pytest.mark.real
def test_perovskite_symmetry_exchanges_only_anions(perov5):
    lattices = lattice_matrix(perov5.parameters)
    allowed = [{(0, 1, 2, 3, 4)}, {(0, 1, 2, 3, 4), (0, 1, 3, 2, 4)}]
    allowed.append({(0, 1, *x) for x in itertools.permutations((2, 3, 4))})
    counts = [0, 0, 0]
    for row in perov5.in_split("test").tolist():
        found = site_permutations(lattices[row], perov5.frac_coords[row])
        counts[allowed.index({tuple(p) for p in found.tolist()})] += 1
    # Most are displaced along x, which leaves a mirror between the first two anions.
    assert counts[1] > counts[0] > counts[2] > 0
