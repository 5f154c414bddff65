"""Calibration and metrics by site against plain counting."""

import numpy as np
import pytest
from small_policies import expert_scorer

from crystal_agents.evaluation.rows import RowEvaluator
from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.rollouts.rollout import batch_by_size, roll_out
from crystal_gym.collections.symmetries import skeleton_symmetries
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeTable


def calibration_error(correct, confidence, weight):
    """Return the expected calibration error of 15 bins by its definition, choice by choice."""
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            fraction, weights = weight[inside].sum() / weight.sum(), weight[inside]
            error += fraction * abs(np.average((correct - confidence)[inside], weights=weights))
    return error


def test_calibration_and_top5_by_site_agree_with_plain_counting(toy):
    vocabulary = Vocabulary.from_elements([*toy.vocabulary.symbols, "H", "Li", "K", "Rb"])
    table, rows = EpisodeTable(toy, vocabulary), np.arange(len(toy))
    shape = (len(toy), toy.max_sites, toy.max_sites, len(vocabulary))
    logits = 2 * np.random.default_rng(0).normal(size=shape)

    def score(state):
        return logits[state.crystal, state.focus, (state.elements > 0).sum(1)]

    batches = list(batch_by_size(table, rows))
    evaluator = RowEvaluator(table, rows, skeleton_symmetries(toy, rows).permutations)
    row = evaluator.policy_row([score], batches, lambda _: None)
    choices = []  # site, correct, among the five most probable, confidence, start sites, sites
    for batch in batches:
        forced = roll_out(table, batch, score, teacher_forced=True)
        k, _, n = forced.rank.shape
        choices += [
            (site, rank == 0, rank < 5, confidence, k, n)
            for site in range(n)
            for rank, confidence in zip(
                forced.rank[..., site].ravel(), forced.confidence[..., site].ravel(), strict=True
            )
        ]
    site, correct, top5, confidence, k, n = np.array(choices, float).T
    assert np.ptp(np.ceil(confidence * 15)) > 5
    # Every crystal counts once, for any number of sites and start sites.
    expected = calibration_error(correct, confidence, 1 / (k * n))
    assert row.metrics["ece"] == MeanWithCI(*[pytest.approx(expected)] * 3)
    for number in range(toy.max_sites):
        at_site = site == number
        weight = 1 / k[at_site]
        assert row.top5_per_site[number] == pytest.approx(np.average(top5[at_site], weights=weight))
        assert row.ece_per_site[number] == pytest.approx(
            calibration_error(correct[at_site], confidence[at_site], weight)
        )


def test_calibration_error_of_certain_undecided_and_nan_scores(toy):
    table = EpisodeTable(toy)
    rows = np.arange(len(toy))
    evaluator = RowEvaluator(table, rows, skeleton_symmetries(toy, rows).permutations)
    batches = list(batch_by_size(table, rows))

    def scaled(factor):
        expert = expert_scorer(table)
        return lambda state: factor * expert(state)

    def ece(factor):
        row = evaluator.policy_row([scaled(factor)], batches, lambda _: None)
        return row.metrics["ece"].mean

    assert ece(1000) == 0
    v = len(table.vocabulary)
    first = np.mean([(codes[codes > 0] == 1).mean() for codes in table.true_elements])
    assert ece(0) == pytest.approx(abs(1 / v - first))
    assert ece(np.nan) == 1
