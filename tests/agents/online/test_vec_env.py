"""The native vector environment as Stable-Baselines3 sees it."""

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from crystal_agents import SkeletonVecEnv
from crystal_gym import CrystalSkeletonVectorEnv
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards import Reward

B = 6


def native(toy, **keywords):
    keywords = {"collection": toy, "split": "all", "autoreset_mode": "SameStep", **keywords}
    return CrystalSkeletonVectorEnv(B, **keywords)


def random_mask(table, state):
    allowed = np.zeros((len(state.crystal), table.n_elements), bool)
    allowed[:, 1] = True
    return allowed


def no_mask_left(table, state):
    allowed = np.ones((len(state.crystal), table.n_elements), bool)
    allowed[2] = False
    return allowed


def test_episodes_are_the_native_ones(toy):
    """From one seed: observations, rewards, ends, last observations and figures are the same."""
    ours, theirs = SkeletonVecEnv(native(toy)), native(toy)
    ours.seed(3)
    seen, (wanted, _) = ours.reset(), theirs.reset(seed=3)
    rng = np.random.default_rng(0)
    total, length = np.zeros(B), np.zeros(B, int)
    for _ in range(30):
        for key, value in wanted.items():
            np.testing.assert_array_equal(seen[key], value)
        actions = rng.integers(0, len(toy.vocabulary), B)
        seen, rewards, ended, infos = ours.step(actions)
        wanted, native_rewards, terminated, _, native_infos = theirs.step(actions)
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
            # Match is the default reward: the return is the fraction that is right.
            assert info["match"] == pytest.approx(total[i])
            for key, value in native_infos["final_obs"][i].items():
                np.testing.assert_array_equal(info["terminal_observation"][key], value)
            assert (info["terminal_observation"]["element"] != 0).all()
        total[ended], length[ended] = 0, 0


def test_a_seed_and_options_hold_for_one_reset(toy):
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


def test_masks_are_found_by_sb3_contrib(toy):
    envs = SkeletonVecEnv(native(toy, mask=random_mask))
    envs.reset()
    assert is_masking_supported(envs)
    masks = get_action_masks(envs)
    assert masks.shape == (B, len(toy.vocabulary))
    assert masks[:, 1].all()
    assert masks.sum() == B
    assert len(envs.env_method("action_masks", indices=[0, 2])) == 2


def test_a_mask_that_leaves_nothing_is_told(toy):
    envs = SkeletonVecEnv(native(toy, mask=no_mask_left))
    envs.reset()
    with pytest.raises(CrystalGymError, match="no element for environment 2"):
        envs.env_method("action_masks")


def test_a_reward_that_is_nan_is_told(toy):
    class Nowhere(Reward):
        def on_fill(self, table, crystal, site, element):
            return np.where(np.arange(len(crystal)) == 4, np.nan, 0.0)

    envs = SkeletonVecEnv(native(toy, reward=Nowhere()))
    envs.reset()
    with pytest.raises(CrystalGymError, match=r"environment 4 is NaN.*take 'worst'"):
        envs.step(np.zeros(B, np.int64))


def test_attributes_are_shared(toy):
    envs = SkeletonVecEnv(native(toy))
    assert envs.get_attr("table", [0, 1])[1] is envs.env.table
    envs.set_attr("render_mode", "ansi")
    assert envs.get_attr("render_mode") == ["ansi"] * B
    envs.reset()
    assert len(envs.get_images()) == B
    with pytest.raises(CrystalGymError, match="share 'render_mode'"):
        envs.set_attr("render_mode", None, [0])
    with pytest.raises(AttributeError):
        envs.get_attr("nothing")


def test_infos_hold_what_a_monitor_would_write(toy):
    envs = SkeletonVecEnv(native(toy))
    assert envs.env_is_wrapped(Monitor) == [True] * B
    assert envs.env_is_wrapped(gym.wrappers.TimeLimit, [0]) == [False]
    # Without a warning, and by these infos.
    returns, lengths = evaluate_policy(
        Titanium(), envs, n_eval_episodes=12, return_episode_rewards=True
    )
    assert len(returns) == 12
    assert 0 <= np.mean(returns) < 1
    assert set(lengths) <= set(toy.n_sites.tolist())


class Titanium:
    """Puts one element everywhere."""

    def predict(self, observations, **keywords):
        return np.full(len(observations["focus"]), 4), None


def test_other_environments_are_refused(toy):
    with pytest.raises(CrystalGymError, match='autoreset_mode="SameStep"'):
        SkeletonVecEnv(native(toy, autoreset_mode="NextStep"))
    with pytest.raises(CrystalGymError, match="CrystalSkeletonVectorEnv is needed"):
        SkeletonVecEnv(gym.make_vec("CartPole-v1", 2))
