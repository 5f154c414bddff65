"""Episodes of environments, and comparison of their results."""

import numpy as np


def play(env, policy, seed=None, options=None):
    """Play one episode of a single environment; return its observations, rewards and infos."""
    observation, info = env.reset(seed=seed, options=options)
    observations, rewards, infos, terminated = [observation], [], [info], False
    while not terminated:
        observation, reward, terminated, truncated, info = env.step(policy(observation, info))
        assert not truncated
        observations.append(observation)
        rewards.append(reward)
        infos.append(info)
    return observations, rewards, infos


def play_constant(env, action, **options):
    """Play one episode with a constant action; return the sum of rewards and the last info."""
    _, rewards, infos = play(env, lambda *_: action, seed=0, options=options)
    return sum(rewards, 0.0), infos[-1]


def assert_same(first, second):
    """Assert that two trees of dictionaries, sequences and arrays are equal, types included."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple) or (
        isinstance(first, np.ndarray) and first.dtype == object
    ):
        assert len(first) == len(second)
        for item, other in zip(first, second, strict=True):
            assert_same(item, other)
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        assert np.array_equal(first, second)
    else:
        assert first == second
