"""Evaluation of conditional policies: rows, correlations and the calibration plot."""

import dataclasses

import numpy as np
import pytest
import torch
from small_policies import SETTINGS, small_policy

from crystal_agents.evaluation.targets import (
    evaluate_targets,
    requested_percentiles,
)
from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_agents.policies.targets import PolicyTargets
from crystal_gym.collections import load_collection
from crystal_gym.errors import CrystalGymError


@pytest.fixture(scope="module")
def crystals():
    """Return forty cubic ABX3 crystals with a label."""
    collection = load_collection("goldschmidt", progress=False)
    collection = collection.take(np.random.default_rng(0).permutation(len(collection))[:40])
    labels = {"heat_all": np.random.default_rng(1).normal(size=40)}
    return dataclasses.replace(collection, name="labeled", labels=labels)


class Requested(SkeletonPolicy):
    """A policy that fills every skeleton as the crystal whose label is closest to the request."""

    def __init__(self, crystals):
        targets = PolicyTargets.from_labels(["heat_all"], crystals.labels["heat_all"][:, None])
        symbols = crystals.vocabulary.symbols
        config = PolicyConfig("egnn", symbols, 5, SETTINGS, targets=targets.as_record())
        super().__init__(config)
        labels = targets.standardize(crystals.labels["heat_all"][:, None])
        self.labels = torch.as_tensor(labels[:, 0])
        self.codes = torch.as_tensor(crystals.codes(crystals.vocabulary))

    def forward(self, batch, elements, focus=None, geometry=None, target=None, *, guidance=0.0):
        assert focus is not None
        if target is None:
            target = torch.zeros(*focus.shape, 1)
        chosen = (target - self.labels).abs().argmin(-1)
        actions = self.codes[chosen, focus].long() - 1
        return torch.nn.functional.one_hot(actions, len(self.vocabulary)).float()


def test_a_perfect_policy_is_measured_as_requested(crystals):
    values = sorted(crystals.labels["heat_all"])[::13]
    report = evaluate_targets(
        Requested(crystals), crystals, "train", values=values, guidance=[0, 1], reward="perov5-dft"
    )
    assert [row.asked for row in report.rows] == [None, *values, *values]
    for row in report.rows[1:]:
        assert row.measured == pytest.approx(row.asked, abs=1e-5)
        assert row.deviation < 1e-6
        assert row.error == pytest.approx(0, abs=1e-5)
        assert row.metrics["labeled"] == 1
        assert row.metrics["unique"] == 1 / report.n_crystals
        # The strain costs energy.
        assert row.metrics["return"] <= -row.measured + 1e-6
    assert report.correlation == pytest.approx({0.0: 1.0, 1.0: 1.0})


def test_percentiles_of_training_labels_are_requested_by_default(crystals):
    values = requested_percentiles(crystals, "heat_all")
    train = crystals.labels["heat_all"][crystals.in_split("train")]
    assert values == sorted(values)
    assert values[3] == pytest.approx(np.median(train), abs=1e-3)
    report = evaluate_targets(Requested(crystals), crystals, "train", guidance=[0])
    assert [row.asked for row in report.rows[1:]] == values
    assert "return" not in report.rows[0].metrics


def test_fillings_without_labels_are_reported(crystals):
    labels = {"heat_all": np.where(np.arange(40) < 20, crystals.labels["heat_all"], np.nan)}
    half = dataclasses.replace(crystals, labels=labels)
    policy = Requested(crystals)
    unlabeled = float(crystals.labels["heat_all"][30])
    report = evaluate_targets(policy, half, "train", values=[unlabeled], guidance=[0])
    (_, row) = report.rows
    assert row.metrics["labeled"] == 0
    assert np.isnan([row.measured, row.deviation, row.error]).all()
    assert report.correlation == {0.0: 0.0}


def test_invalid_requests_are_errors(crystals):
    with pytest.raises(CrystalGymError, match="Expected a conditional policy"):
        evaluate_targets(small_policy(crystals), crystals, "val")
    with pytest.raises(CrystalGymError, match="Expected a label for which the policy was trained"):
        evaluate_targets(Requested(crystals), crystals, "val", label="ind_gap")
    with pytest.raises(CrystalGymError, match=r"Expected heat_all from .*, got 99"):
        evaluate_targets(Requested(crystals), crystals, "train", values=[99.0])
