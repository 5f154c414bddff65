"""The criteria of a task: scores and probabilities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from crystal_agents.experiments.discovery.criteria import log_probability_between

limits = st.floats(-5, 5)


def test_scores_of_true_labels_are_those_of_the_reward(water_splitting):
    scores = water_splitting.criteria.score(water_splitting.labels)
    np.testing.assert_allclose(scores, water_splitting.scores)


def test_targets_are_probable_if_their_labels_are_known(water_splitting):
    labels = water_splitting.labels
    probability = water_splitting.criteria.log_probability(labels, np.full(labels.shape, 0.02))
    assert (np.exp(probability) > 0.5).tolist() == water_splitting.is_target.tolist()


@settings(max_examples=20)
@given(limits, st.floats(0.01, 5))
def test_probability_is_that_of_a_normal_variable(low, width):
    logarithm = log_probability_between(np.array([low]), np.array([low + width]))
    assert np.exp(logarithm) == pytest.approx(norm.cdf(low + width) - norm.cdf(low), rel=1e-6)


def test_probability_of_open_and_far_ranges():
    low = np.array([-np.inf, 0.0, -np.inf, 40.0, -41.0, 1e4])
    high = np.array([np.inf, np.inf, -40.0, 41.0, -40.0, 2e4])
    logarithms = log_probability_between(low, high)
    assert logarithms[:3] == pytest.approx([0, np.log(0.5), norm.logcdf(-40)])
    assert logarithms[3] == pytest.approx(logarithms[4])
    assert logarithms[5] == -1e4
