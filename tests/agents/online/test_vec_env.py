"""The native vector environment in the interface of Stable-Baselines3."""

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from crystal_agents import SkeletonVecEnv
from crystal_gym import CrystalSkeletonVectorEnv, FlatVectorObservation
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards import Reward

B = 6


def native(toy, **keywords):
    keywords = {"collection": toy, "split": "all", "autoreset_mode": "SameStep", **keywords}
    return CrystalSkeletonVectorEnv(B, **keywords)


def second_element_only(table, state):
    allowed = np.zeros((len(state.crystal), table.n_elements), bool)
    allowed[:, 1] = True
    return allowed


def nothing_in_environment_2(table, state):
    allowed = np.ones((len(state.crystal), table.n_elements), bool)
    allowed[2] = False
    return allowed


def test_episodes_equal_the_native_ones(toy):
    """One seed gives equal observations, rewards, ends, last observations and metrics."""
    envs, native_envs = SkeletonVecEnv(native(toy)), native(toy)
    envs.seed(3)
    observations, (expected, _) = envs.reset(), native_envs.reset(seed=3)
    rng = np.random.default_rng(0)
    total, length = np.zeros(B), np.zeros(B, int)
    for _ in range(30):
        for key, value in expected.items():
            np.testing.assert_array_equal(observations[key], value)
        actions = rng.integers(0, len(toy.vocabulary), B)
        observations, rewards, ended, infos = envs.step(actions)
        expected, native_rewards, terminated, _, native_infos = native_envs.step(actions)
        np.testing.assert_array_equal(rewards, native_rewards.astype(np.float32))
        np.testing.assert_array_equal(ended, terminated)
        total += native_rewards
        length += 1
        for i, info in enumerate(infos):
            if not ended[i]:
                assert info == {}
                continue
            assert info["TimeLimit.truncated"] is False
            assert info["episode"]["r"] == pytest.approx(total[i])
            assert info["episode"]["l"] == length[i]
            # The default reward is match, so the return is the fraction of correct sites.
            assert info["match"] == pytest.approx(total[i])
            for key, value in native_infos["final_obs"][i].items():
                np.testing.assert_array_equal(info["terminal_observation"][key], value)
            assert (info["terminal_observation"]["element"] != 0).all()
        total[ended], length[ended] = 0, 0


def test_truncated_episodes_are_marked_and_have_no_metrics(toy):
    """Cells have 1 to 6 sites, so a limit of 3 truncates some episodes and not others."""
    envs = SkeletonVecEnv(native(toy, max_episode_steps=3))
    envs.seed(0)
    envs.reset()
    complete, lengths = [], []
    for _ in range(20):
        _, _, ended, infos = envs.step(np.zeros(B, int))
        for i in np.flatnonzero(ended):
            is_complete = bool((infos[i]["terminal_observation"]["element"] != 0).all())
            assert infos[i]["TimeLimit.truncated"] is not is_complete
            assert ("match" in infos[i]) == is_complete
            complete.append(is_complete)
            lengths.append(infos[i]["episode"]["l"])
    assert {True, False} == set(complete)
    assert set(lengths) == {1, 2, 3}


def test_seed_and_options_apply_to_one_reset(toy):
    envs = SkeletonVecEnv(native(toy))
    envs.seed(5)
    first = envs.reset()
    other = envs.reset()
    envs.seed(5)
    again = envs.reset()
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert any(not np.array_equal(first[key], other[key]) for key in first)
    envs.set_options([{"crystal": row, "start_site": 0} for row in range(B)])
    chosen = envs.reset()
    sites = (chosen["element"] >= 0).sum(1)
    assert sites.tolist() == toy.n_sites[:B].tolist()


def test_sb3_contrib_finds_the_masks(toy):
    envs = SkeletonVecEnv(native(toy, mask=second_element_only))
    envs.reset()
    assert is_masking_supported(envs)
    masks = get_action_masks(envs)
    assert masks.shape == (B, len(toy.vocabulary))
    assert masks[:, 1].all()
    assert masks.sum() == B
    assert len(envs.env_method("action_masks", indices=[0, 2])) == 2


def test_env_method_rejects_a_mask_that_allows_no_element(toy):
    envs = SkeletonVecEnv(native(toy, mask=nothing_in_environment_2))
    envs.reset()
    with pytest.raises(CrystalGymError, match="at least one element, got none in environment 2"):
        envs.env_method("action_masks")


def test_step_rejects_a_nan_reward(toy):
    class NaNInEnvironment4(Reward):
        def on_fill(self, table, state, element):
            return np.where(np.arange(len(state.crystal)) == 4, np.nan, 0.0)

    envs = SkeletonVecEnv(native(toy, reward=NaNInEnvironment4()))
    envs.reset()
    with pytest.raises(CrystalGymError, match=r"NaN in environment 4.*choose missing='worst'"):
        envs.step(np.zeros(B, np.int64))


def test_environments_share_their_attributes(toy):
    envs = SkeletonVecEnv(native(toy))
    assert envs.get_attr("table", [0, 1])[1] is envs.env.table
    envs.set_attr("render_mode", "ansi")
    assert envs.get_attr("render_mode") == ["ansi"] * B
    envs.reset()
    assert len(envs.get_images()) == B
    with pytest.raises(
        CrystalGymError, match=r"'render_mode' to be set for all 6 environments.*got \[0\]"
    ):
        envs.set_attr("render_mode", None, [0])
    with pytest.raises(AttributeError):
        envs.get_attr("nothing")


def test_infos_contain_the_entries_of_a_monitor(toy):
    envs = SkeletonVecEnv(native(toy))
    assert envs.env_is_wrapped(Monitor) == [True] * B
    assert envs.env_is_wrapped(gym.wrappers.TimeLimit, [0]) == [False]
    # evaluate_policy reads these infos, and would warn without a Monitor.
    returns, lengths = evaluate_policy(
        ConstantPolicy(), envs, n_eval_episodes=12, return_episode_rewards=True
    )
    assert len(returns) == 12
    assert 0 <= np.mean(returns) < 1
    assert set(lengths) <= set(toy.n_sites.tolist())


class ConstantPolicy:
    """Assigns one element to all sites."""

    def predict(self, observations, **keywords):
        return np.full(len(observations["focus"]), 4), None


def test_other_environments_are_rejected(toy):
    with pytest.raises(CrystalGymError, match='autoreset_mode="SameStep"'):
        SkeletonVecEnv(native(toy, autoreset_mode="NextStep"))
    with pytest.raises(CrystalGymError, match="Expected a CrystalSkeletonVectorEnv"):
        SkeletonVecEnv(gym.make_vec("CartPole-v1", 2))


def test_flat_observations_of_the_native_vector_reach_the_agent(toy):
    flat = FlatVectorObservation(native(toy))
    envs = VecNormalize(VecFrameStack(SkeletonVecEnv(flat), 2))
    size = flat.single_observation_space.shape[0]
    assert envs.reset().shape == (B, 2 * size)
    for action in range(12):
        observations, _, ended, infos = envs.step(np.full(B, action % 5))
        assert observations.shape == (B, 2 * size)
        for index in np.flatnonzero(ended):
            assert infos[index]["terminal_observation"].shape == (2 * size,)
