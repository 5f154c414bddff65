"""Means and intervals against known distributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_agents.evaluation.statistics import MeanWithCI, aggregate, interquartile_mean


def test_intervals_cover_the_mean_of_a_known_distribution():
    rng = np.random.default_rng(0)
    estimates = [MeanWithCI.of(rng.random(60)) for _ in range(100)]
    assert 86 <= sum(e.low <= 0.5 <= e.high for e in estimates) <= 100


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3, 0.3]])
def test_interval_of_equal_values_is_a_point(values):
    assert MeanWithCI.of(np.array(values)) == MeanWithCI(0.3, 0.3, 0.3)


def test_missing_values_are_left_out_and_counted(caplog):
    assert MeanWithCI.of(np.array([0.3, np.nan])) == MeanWithCI(0.3, 0.3, 0.3)
    assert "1 of 2 values are NaN" in caplog.text
    assert np.isnan(MeanWithCI.of(np.array([np.nan])).mean)


def test_interval_is_reproducible_and_contains_the_mean():
    values = np.random.default_rng(1).normal(size=30)
    estimate = MeanWithCI.of(values)
    assert estimate == MeanWithCI.of(values)
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.low < estimate.mean < estimate.high


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40))
def test_interquartile_mean_is_the_mean_of_the_middle_half(values):
    cut = len(values) // 4
    middle = sorted(values)[cut : len(values) - cut]
    expected = pytest.approx(np.mean(middle), rel=1e-9, abs=1e-9)
    assert interquartile_mean(np.array(values)) == expected


def test_interquartile_mean_of_five_values_is_that_of_the_middle_three():
    values = np.array([[5.0, 1.0, 2.0, 3.0, -9.0], [1.0, 1.0, 1.0, 1.0, 99.0]])
    np.testing.assert_allclose(interquartile_mean(values, axis=1), [2.0, 1.0])
    np.testing.assert_allclose(interquartile_mean(values.T, axis=0), [2.0, 1.0])


def test_aggregate_is_the_interquartile_mean_over_all_tasks():
    rng = np.random.default_rng(2)
    strata = [rng.normal(size=5), 10 + rng.normal(size=5)]
    estimate = aggregate(strata)
    assert estimate.mean == pytest.approx(float(interquartile_mean(np.concatenate(strata))))
    assert estimate.low < estimate.mean < estimate.high
    assert aggregate(strata) == estimate


def test_aggregate_resamples_within_tasks():
    """The difference between tasks does not widen the interval."""
    noise = 0.01 * np.arange(4)
    estimate = aggregate([noise, 10 + noise])
    assert 0 < estimate.high - estimate.low < 0.1
    assert aggregate([np.zeros(5), np.ones(5)]) == MeanWithCI(0.5, 0.5, 0.5)


def test_aggregate_of_single_runs_has_no_interval():
    assert aggregate([np.array([0.2]), np.array([0.4, 0.6])]).low == pytest.approx(0.4)


@given(sizes=st.lists(st.integers(1, 6), min_size=3, max_size=20), seed=st.integers(0, 1000))
def test_the_ratio_of_groups_is_the_mean_of_their_values(sizes, seed):
    values = [np.random.default_rng(seed).random(size) for size in sizes]
    estimate = MeanWithCI.of_ratio(
        np.array([group.sum() for group in values]), np.array(sizes, float)
    )
    assert estimate.mean == pytest.approx(np.concatenate(values).mean())
    assert estimate.low <= estimate.mean <= estimate.high


def test_the_interval_of_a_ratio_of_equal_groups_is_that_of_a_mean():
    totals = np.random.default_rng(0).random(40)
    ratio, mean = MeanWithCI.of_ratio(totals, np.ones(40)), MeanWithCI.of(totals)
    assert (ratio.low, ratio.high) == pytest.approx((mean.low, mean.high))
