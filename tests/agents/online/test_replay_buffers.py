"""Returns over several steps equal those of a loop over the stored transitions."""

import numpy as np
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_agents.online.replay_buffers import NStepReplayBuffer

N_ENVS, SIZE = 2, 6
SPACE = spaces.Dict({"time": spaces.Box(-1, 100, (1,))})


def filled_buffer(dones, timeouts, **settings):
    """Return a buffer in which observation and reward of a step are its time and 2^time."""
    buffer = NStepReplayBuffer(
        SIZE * N_ENVS,
        SPACE,
        spaces.Discrete(3),
        n_envs=N_ENVS,
        handle_timeout_termination=True,
        **settings,
    )
    for time, (done, timeout) in enumerate(zip(dones, timeouts, strict=True)):
        at = np.full((N_ENVS, 1), time, np.float32)
        infos = [{"TimeLimit.truncated": done and timeout}] * N_ENVS
        reward, ends = np.full(N_ENVS, 2.0**time), np.full(N_ENVS, done)
        buffer.add({"time": at}, {"time": at + 1}, np.zeros(N_ENVS), reward, ends, infos)
    return buffer


@settings(max_examples=60)
@given(
    steps=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=11),
    n_steps=st.integers(1, 5),
    gamma=st.sampled_from([1.0, 0.5]),
)
def test_returns_equal_those_of_a_loop(steps, n_steps, gamma):
    dones, timeouts = zip(*steps, strict=True)
    buffer = filled_buffer(dones, timeouts, n_steps=n_steps, gamma=gamma)
    batch = buffer.sample(8)
    for i in range(8):
        time = last = int(batch.observations["time"][i])
        total, discount = 2.0**time, gamma
        while last - time + 1 < n_steps and not dones[last] and last + 1 < len(steps):
            last += 1
            total += discount * 2.0**last
            discount *= gamma
        assert batch.rewards[i] == total
        assert batch.discounts[i] == discount
        assert batch.next_observations["time"][i] == last + 1
        assert batch.dones[i] == (dones[last] and not timeouts[last])


def test_one_step_is_the_default():
    buffer = filled_buffer([False] * 4, [False] * 4)
    batch = buffer.sample(5)
    assert np.array_equal(batch.rewards, 2 ** batch.observations["time"])
