"""Metrics of finished crystals against plain counting."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_agents.evaluation.metrics import (
    composition,
    mean_by_site,
    swap_accuracy,
    symmetry_equivalent_accuracy,
)


def test_composition_is_sorted_without_padding():
    assert composition(np.array([22, 8, 8, 12, 0, 0])) == (8, 8, 12, 22)


def test_mean_by_site_leaves_out_crystals_without_the_site():
    nan = np.nan
    means = mean_by_site(np.array([[1.0, 0.0, nan], [0.0, nan, nan]]))
    np.testing.assert_array_equal(means, [0.5, 0.0, nan])


@given(st.lists(st.integers(1, 3), min_size=3, max_size=3), st.permutations([1, 2, 3]))
def test_swap_accuracy_is_the_best_of_all_exchanges(elements, true):
    best = sum(a == b for a, b in zip(elements, true, strict=True))
    for i, j in itertools.combinations(range(3), 2):
        changed = list(elements)
        changed[i], changed[j] = changed[j], changed[i]
        best = max(best, sum(a == b for a, b in zip(changed, true, strict=True)))
    accuracy = swap_accuracy(np.array(elements)[None, None], np.array(true)[None])
    assert accuracy[0, 0] == pytest.approx(best / 3)


@given(
    st.lists(st.lists(st.integers(1, 3), min_size=4, max_size=4), min_size=3, max_size=3),
    st.lists(st.lists(st.integers(1, 3), min_size=4, max_size=4), min_size=3, max_size=3),
)
def test_symmetry_equivalent_accuracy_is_the_best_of_each_crystals_permutations(elements, true):
    all_permutations = np.array(list(itertools.permutations(range(4))))
    allowed = [
        all_permutations[:1],
        all_permutations,
        np.array([[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1]]),
    ]
    for crystal, permutations in enumerate(allowed):
        best = max(
            np.mean([elements[crystal][i] == true[crystal][j] for i, j in enumerate(permutation)])
            for permutation in permutations
        )
        accuracy = symmetry_equivalent_accuracy(np.array(elements)[None], np.array(true), allowed)
        assert accuracy[0, crystal] == pytest.approx(best)
        fillings = np.array(elements)[:, None]
        single = symmetry_equivalent_accuracy(
            fillings, np.array(true)[crystal][None], [permutations]
        )
        assert single[crystal, 0] == pytest.approx(best)
