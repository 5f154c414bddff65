"""Temperature scaling of a trained policy."""

import dataclasses

import numpy as np
import pytest
import torch
from small_policies import small_policy

from crystal_agents import load_policy
from crystal_agents.policies.policy import PolicyScorer
from crystal_agents.rollouts.rollout import batch_by_size, roll_out
from crystal_agents.training.calibration import TEMPERATURE, calibrate
from crystal_datasets import build_dataset, load_transitions
from crystal_gym import load_collection
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError


@pytest.fixture(scope="module")
def data(toy, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        return load_transitions(build_dataset(toy, "all", progress=False), progress=False)


def scaled(policy, factor):
    """Return a copy of a policy with its logits times a factor."""
    copied = type(policy)(policy.config)
    copied.load_state_dict(policy.state_dict())
    with torch.no_grad():
        for parameter in copied.readout.action[-1].parameters():
            parameter.mul_(factor)
    return copied.eval()


def probabilities(policy, toy):
    table = EpisodeTable(toy)
    scorer = PolicyScorer(policy, table)
    results = [
        roll_out(table, batch, scorer, teacher_forced=True)
        for batch in batch_by_size(table, np.arange(len(toy)))
    ]
    return results, np.concatenate([result.confidence.ravel() for result in results])


@pytest.mark.parametrize("factor", [0.5, 1.5, 2.0])
def test_the_temperature_undoes_a_scaling_of_the_logits(factor, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    goldschmidt = load_collection("goldschmidt")
    policy = load_policy("goldschmidt/egnn")
    some = goldschmidt.take(goldschmidt.in_split("val")[:40])
    name = build_dataset(some, "val", vocabulary=policy.vocabulary, progress=False)
    data = load_transitions(name, progress=False)
    first, second = calibrate(policy, data), calibrate(scaled(policy, factor), data)
    assert 0.5 < first.temperature < 2
    assert second.temperature == pytest.approx(factor * first.temperature, rel=0.01)
    assert second.after == pytest.approx(first.after, abs=1e-4)
    assert first.after <= first.before


def test_choices_do_not_change_and_confidence_does(toy, data):
    policy = scaled(small_policy(toy), 20.0)
    found = calibrate(policy, data)
    before, confidence = probabilities(policy, toy)
    after, calibrated = probabilities(found.policy, toy)
    for left, right in zip(before, after, strict=True):
        np.testing.assert_array_equal(left.elements, right.elements)
    assert found.temperature > 1
    assert (calibrated <= confidence + 1e-6).all()
    assert found.policy.config.training[TEMPERATURE] == pytest.approx(found.temperature, abs=1e-4)


def test_the_losses_are_those_of_the_actions(toy, data):
    policy = small_policy(toy)
    found = calibrate(policy, data)
    table, total = EpisodeTable(toy), []
    for batch in batch_by_size(table, np.arange(len(toy))):
        scorer = PolicyScorer(policy, table)

        def score(state, scorer=scorer):
            logits = torch.as_tensor(scorer(state)).log_softmax(-1).numpy()
            true = table.true_elements[state.crystal, state.focus] - 1
            total.extend(-logits[np.arange(len(true)), true])
            return logits

        roll_out(table, batch, score, teacher_forced=True)
    assert found.before == pytest.approx(np.mean(total), rel=1e-5)


def test_a_calibrated_policy_is_refused(toy, data):
    found = calibrate(small_policy(toy), data)
    with pytest.raises(CrystalGymError, match="not calibrated"):
        calibrate(found.policy, data)


def test_another_vocabulary_is_refused(toy, data):
    other = dataclasses.replace(data, vocabulary=("H", *data.vocabulary[1:]))
    with pytest.raises(CrystalGymError, match="vocabulary of the policy"):
        calibrate(small_policy(toy), other)
