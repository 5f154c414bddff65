"""Minibatches consist of blocks of consecutive steps; low advantages can be raised."""

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from online_models import envs_for

from crystal_agents import SkeletonVecEnv
from crystal_agents.online.rollout_buffers import SkeletonRolloutBuffer


def test_minibatches_contain_each_step_once_in_blocks(toy):
    envs = SkeletonVecEnv(envs_for(toy, 3))
    buffer = SkeletonRolloutBuffer(7, envs.observation_space, envs.action_space, n_envs=3)
    observations = envs.reset()
    for step in range(7):
        number = 10 * np.arange(3) + step
        buffer.add(observations, np.zeros(3), number, np.zeros(3), torch.zeros(3), torch.zeros(3))
    buffer.returns = buffer.rewards.copy()
    minibatches = [part.returns.tolist() for part in buffer.get(6)]
    assert [len(part) for part in minibatches] == [6, 6, 6, 3]
    steps = [number for part in minibatches for number in part]
    assert sorted(steps) == sorted(10.0 * env + step for env in range(3) for step in range(7))
    consecutive = sum(b - a == 1 for a, b in itertools.pairwise(steps))
    assert consecutive >= 14


@given(
    rewards=hnp.arrays(np.float32, (6, 2), elements=st.floats(-9, 9, width=16)),
    quantile=st.floats(0, 1),
)
def test_low_advantages_are_raised_to_a_quantile(toy, rewards, quantile):
    def advantages(**settings):
        envs = SkeletonVecEnv(envs_for(toy, 2))
        buffer = SkeletonRolloutBuffer(
            6, envs.observation_space, envs.action_space, n_envs=2, **settings
        )
        buffer.rewards[:] = rewards
        buffer.compute_returns_and_advantage(torch.zeros(2), np.ones(2))
        return buffer.advantages

    original, raised = advantages(), advantages(advantage_floor=quantile)
    floor = np.quantile(original, quantile).astype(np.float32)
    assert np.array_equal(raised, np.maximum(original, floor))
    assert np.array_equal(advantages(advantage_floor=0.0), original)
