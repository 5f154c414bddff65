"""The autoreset mode Disabled of the native vector environment, and resets of some environments."""

import gymnasium as gym
import numpy as np
import pytest
from env_episodes import assert_same
from gymnasium.vector import AutoresetMode

import crystal_gym
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_mode_is_an_attribute(toy, mode):
    vector = gym.make_vec("CrystalSkeleton-v0", 2, collection=toy, autoreset_mode=mode)
    assert vector.unwrapped.autoreset_mode is vector.metadata["autoreset_mode"] is mode


def test_a_masked_reset_leaves_the_other_environments_as_they_are(toy):
    vector = CrystalSkeletonVectorEnv(5, collection=toy, split="all", autoreset_mode="Disabled")
    before, _ = vector.reset(seed=0, options={"crystal": "toy-5", "start_site": 1})
    before, *_ = vector.step(np.zeros(5, int))
    mask = np.array([False, True, False, True, False])
    sites = [0, 1, 2, 3, 4]
    after, infos = vector.reset(
        options={"reset_mask": mask, "crystal": ["toy-2"] * 5, "start_site": [0, 1, 0, 2, 0]}
    )
    assert mask.tolist() == [False, True, False, True, False]
    for name, values in after.items():
        assert np.array_equal(values[~mask], before[name][~mask])
    assert infos["crystal"].tolist() == [5, 2, 5, 2, 5]
    assert infos["start_site"].tolist() == [1, 1, 1, 2, 1]
    assert after["focus"][mask].tolist() == [1, 2]
    assert (after["element"][mask] <= 0).all()
    for name in infos:
        if name.startswith("_"):
            assert infos[name].tolist() == mask.tolist()
    with pytest.raises(crystal_gym.CrystalGymError, match=r"5 values of reset option 'start_site'"):
        vector.reset(options={"reset_mask": mask, "start_site": sites[:2]})


def test_a_step_after_the_end_needs_a_reset(toy):
    vector = CrystalSkeletonVectorEnv(3, collection=toy, split="all", autoreset_mode="Disabled")
    vector.reset(seed=0, options={"crystal": ["toy-0", "toy-5", "toy-0"]})
    terminated = vector.step(np.zeros(3, int))[2]
    assert terminated.tolist() == [True, False, True]
    with pytest.raises(gym.error.ResetNeeded, match=r"environments \[0, 2\] are over"):
        vector.step(np.zeros(3, int))
    vector.reset(options={"reset_mask": terminated, "crystal": "toy-5"})
    assert not vector.step(np.zeros(3, int))[2].any()


def test_all_modes_play_the_same_episodes(toy):
    """Episodes are drawn in the order in which they start, whatever the mode."""
    settings = {"collection": toy.take([5]), "split": "all", "traversal": "random"}
    played = []
    for mode in AutoresetMode:
        vector = CrystalSkeletonVectorEnv(1, autoreset_mode=mode, **settings)
        observation, _ = vector.reset(seed=0)
        episode = [observation["focus"][0]]
        for _ in range(40):
            observation, _, terminated, *_ = vector.step(np.zeros(1, int))
            if mode is AutoresetMode.DISABLED and terminated.any():
                observation, _ = vector.reset(options={"reset_mask": terminated})
            elif mode is AutoresetMode.NEXT_STEP and terminated.any():
                observation, *_ = vector.step(np.zeros(1, int))
            episode.append(observation["focus"][0])
        played.append(episode)
    assert played[0] == played[1] == played[2]


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_gymnasium_vector_observation_wrappers_accept_the_mode(toy, mode):
    vector = gym.make_vec("CrystalSkeleton-v0", 3, collection=toy, autoreset_mode=mode)
    wrapped = gym.wrappers.vector.FilterObservation(vector, ["element", "focus"])
    observation, _ = wrapped.reset(seed=0)
    assert set(observation) == {"element", "focus"}
    assert set(wrapped.step(np.zeros(3, int))[0]) == {"element", "focus"}


def test_infos_have_the_same_keys_and_types_at_every_step(toy):
    for mode in AutoresetMode:
        settings = {"collection": toy, "reward": {"match": 1, "validity": 0.5}}
        vector = CrystalSkeletonVectorEnv(4, autoreset_mode=mode, **settings)
        _, first = vector.reset(seed=0)
        kinds = {name: value.dtype for name, value in first.items()}
        for _ in range(15):
            *_, terminated, _, infos = vector.step(vector.expert_action())
            final = infos.pop("final_info", None)
            for name in ("final_obs", "_final_obs", "_final_info"):
                infos.pop(name, None)
            assert {name: value.dtype for name, value in infos.items()} == kinds
            if final is not None:
                assert {name: value.dtype for name, value in final.items()} == kinds
            ends = infos if final is None else final
            assert ((ends["validity/validity"] >= 0) == terminated).all()
            if mode is AutoresetMode.DISABLED and terminated.any():
                _, infos = vector.reset(options={"reset_mask": terminated})
                assert {name: value.dtype for name, value in infos.items()} == kinds


def test_a_vector_of_one_equals_the_single_environment_in_infos(toy):
    settings = {"collection": toy, "split": "all", "reward": "validity", "traversal": "random"}
    single = gym.make("CrystalSkeleton-v0", **settings)
    vector = CrystalSkeletonVectorEnv(1, autoreset_mode="Disabled", **settings)
    _, info = single.reset(seed=1)
    _, infos = vector.reset(seed=1)
    for _ in range(40):
        assert_same({name: infos[name][0] for name in info}, info)
        *_, terminated, _, infos = vector.step(np.array([2]))
        *_, done, _, info = single.step(2)
        assert done == terminated[0]
        if done:
            assert_same({name: infos[name][0] for name in info}, info)
            _, info = single.reset()
            _, infos = vector.reset(options={"reset_mask": terminated})
