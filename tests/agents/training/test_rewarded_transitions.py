"""Transitions with rewards: their scale and the next states in a batch."""

import dataclasses

import numpy as np
import pytest
import torch

from crystal_agents.training.rewarded_transitions import RewardedStore, on_unit_scale

# torchrl warns when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_returns_are_scaled_to_the_range_from_0_to_1(biased):
    reward = 40 * biased.reward.astype(np.float64)
    reward[biased.done] -= 50
    scaled = on_unit_scale(dataclasses.replace(biased, reward=reward.astype(np.float32)))
    low, high = np.percentile(scaled.returns, (1, 99))
    assert (low, high) == pytest.approx((0, 1), abs=1e-5)
    assert np.corrcoef(scaled.returns, biased.returns)[0, 1] == pytest.approx(1)


def test_equal_returns_become_zero(biased):
    equal = dataclasses.replace(biased, reward=np.where(biased.done, -4.98, 0).astype(np.float32))
    assert not on_unit_scale(equal).reward.any()


def test_next_states_are_those_of_the_trajectory(random):
    store = RewardedStore(random)
    batch = store.batch(torch.arange(len(random))[:, None])[0]
    continued = np.flatnonzero(~random.done)
    next_state = batch["next"][torch.as_tensor(continued)]
    assert np.array_equal(next_state["element"], random.elements[continued + 1])
    assert np.array_equal(next_state["focus"], random.focus[continued + 1])
    assert np.array_equal(batch["next", "terminated"].ravel(), random.done)
    assert np.array_equal(batch["next", "reward"].ravel(), random.reward)
