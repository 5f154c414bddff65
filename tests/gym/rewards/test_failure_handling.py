"""Failures of rewards: values that are not finite, exceptions and fallbacks."""

import logging

import numpy as np
import pytest
from env_episodes import play_constant

from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode import EpisodeTable, finished
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards import FailureHandler, FunctionReward, RewardError


def test_function_must_return_a_number(toy):
    for value in (None, "much", [1.0, 2.0], 10**400):
        env = CrystalSkeletonEnv(collection=toy, reward=lambda _, value=value: value)
        with pytest.raises(RewardError, match="return a number for O6 on skeleton 'toy-5', got"):
            play_constant(env, 0, crystal=5)


def test_exception_of_a_function_names_the_crystal(toy):
    def divide_by_zero(structure):
        return 1 / (len(structure) - 6)

    env = CrystalSkeletonVectorEnv(12, collection=toy, split="all", reward=divide_by_zero)
    env.reset(seed=0, options={"crystal": np.arange(12)})
    for _ in range(5):
        env.step(env.expert_action())
    message = f"failed on {toy.formula(5)} on skeleton 'toy-5': ZeroDivisionError: "
    with pytest.raises(RewardError, match=message) as caught:
        env.step(env.expert_action())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_errors_of_the_package_keep_their_type(toy):
    def fail(structure):
        raise UnknownNameError("model", "chgnut", ["chgnet"])

    with pytest.raises(UnknownNameError, match="Did you mean 'chgnet'"):
        play_constant(CrystalSkeletonEnv(collection=toy, reward=fail), 0)


@pytest.mark.parametrize("failure", [np.nan, np.inf, -np.inf])
def test_failures_are_replaced_counted_and_logged_once(toy, failure, caplog):
    calls = []

    def fail_twice(structure):
        calls.append(structure)
        return failure if len(calls) in {700, 1500} else 1.5

    env = CrystalSkeletonVectorEnv(
        1024,
        collection=toy,
        reward=FunctionReward(fail_twice, fallback=-3.0),
        autoreset_mode="SameStep",
    )
    env.reset(seed=0, options={"crystal": 5})
    with caplog.at_level(logging.WARNING):
        for _ in range(6):
            _, rewards, terminations, _, infos = env.step(env.expert_action())
        assert terminations.all()
        assert np.flatnonzero(rewards == -3.0).tolist() == [699]
        assert (np.delete(rewards, 699) == 1.5).all()
        final = infos["final_info"]
        assert np.flatnonzero(final["failed"]).tolist() == [699]
        assert np.array_equal(final["score"][[699, 700]], [failure, 1.5], equal_nan=True)
        assert (final["failures"] == 1).all()
        while len(calls) < 1500:
            _, rewards, terminations, _, infos = env.step(env.expert_action())
            assert np.isfinite(rewards).all()
    assert infos["final_info"]["failures"].max() == 2
    (record,) = caplog.records
    message = f"{toy.formula(5)} on skeleton 'toy-5' is {failure}, so the fallback -3.0 is used"
    assert message in record.getMessage()


def test_fallback_must_be_a_finite_number():
    for fallback in (np.nan, np.inf, None, "0", False):
        with pytest.raises(CrystalGymError, match="Expected fallback to be a finite number"):
            FailureHandler(fallback)


def test_handler_replaces_and_counts_failures(toy):
    table = EpisodeTable(toy)
    values = np.array([1.0, np.nan, -np.inf, 2.0])
    handler = FailureHandler(-1)
    state = finished(table, np.arange(4), table.true_elements[:4])
    rewards, components = handler.replace_failures(table, state, values)
    assert rewards.tolist() == [1, -1, -1, 2]
    assert components["failed"].tolist() == [0, 1, 1, 0]
    assert handler.count == 2
