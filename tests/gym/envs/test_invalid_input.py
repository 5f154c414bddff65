"""Error messages of the single environment for invalid arguments, options and actions."""

import gymnasium as gym
import numpy as np
import pytest
from env_episodes import play

import crystal_gym
from crystal_gym.envs.generator import InstanceGenerator
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"collection": "perov5"}, "Did you mean 'perov-5'"),
        ({"split": "tets"}, "Unknown split 'tets'. Did you mean 'test'"),
        ({"split_by": "formula"}, "Unknown split_by 'formula'"),
        ({"vocabulary": ["O", "Uue"]}, "Expected an element symbol .* got 'Uue'"),
        ({"vocabulary": ["O", "Ti"]}, "is not in the vocabulary of 2 elements"),
        ({"vocabulary": "TiO"}, "a list of element symbols"),
        ({"vocabulary": []}, "one or more distinct elements"),
        ({"traversal": "depth-first"}, "Unknown traversal 'depth-first'"),
        ({"start_site": 3}, "start_site from 0 to 0 for crystal 'toy-0', got 3"),
        ({"start_site": -1}, "got -1"),
        ({"start_site": 0.5}, "Expected start_site to be a site number, got 0.5"),
        ({"max_sites": 4}, "at most 4 sites per cell, got 6 in crystal 'toy-5' of 'toy'"),
        ({"max_sites": "6"}, "Expected max_sites to be an integer, got '6'"),
        ({"reward": "macth"}, "Unknown reward 'macth'. Did you mean 'match'"),
        ({"reward": 3}, "Expected reward to be a name"),
        ({"mask": "all"}, "Unknown mask 'all'"),
        ({"mask": 3}, "Expected mask to be a name, a mapping"),
        ({"mask": lambda *_: np.ones(3)}, r"shape \(5,\), got \(3,\)"),
        ({"render_mode": "pdf"}, "Unknown render mode 'pdf'"),
    ],
)
def test_invalid_arguments_are_rejected(toy, settings, message):
    with pytest.raises(crystal_gym.CrystalGymError, match=message):
        CrystalSkeletonEnv(**{"collection": toy, **settings}).reset()


def test_empty_split_is_rejected(toy):
    train = toy.take(toy.in_split("train"))
    with pytest.raises(crystal_gym.CrystalGymError, match="Split 'test' of 'toy' is empty"):
        CrystalSkeletonEnv(collection=train, split="test")


def test_keywords_together_with_a_generator_are_rejected(toy):
    message = "Expected no split together with a generator"
    with pytest.raises(crystal_gym.CrystalGymError, match=message):
        CrystalSkeletonEnv(generator=InstanceGenerator(toy), split="val")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crystal": "no-such"}, "No crystal 'no-such' in 'toy'"),
        ({"crystal": 12}, "rows run from 0 to 11"),
        ({"crystal": -1}, "No crystal -1"),
        ({"crystal": 1.5}, "an id .* or a row"),
        ({"crystal": True}, "an id .* or a row"),
        (
            {"crystal": 2, "start_site": 3},
            "start_site from 0 to 2 for crystal 'toy-2', got 3",
        ),
        ({"start_site": "A"}, "'start_site' to be a site number, got 'A'"),
        ({"start_site": [0, 1]}, r"Expected one value .*got shape \(2,\)"),
        ({"crystl": 2}, "Unknown reset option 'crystl'. Did you mean 'crystal'"),
    ],
)
def test_invalid_options_are_rejected(toy, options, message):
    env = CrystalSkeletonEnv(collection=toy)
    with pytest.raises(crystal_gym.CrystalGymError, match=message):
        env.reset(seed=0, options=options)


@pytest.mark.parametrize("action", [-1, 5, 1.0, "O", None, np.array([1])])
def test_invalid_action_is_rejected_without_changing_the_state(toy, action):
    env = CrystalSkeletonEnv(collection=toy)
    observation, _ = env.reset(seed=0, options={"crystal": 5})
    with pytest.raises(gym.error.InvalidAction, match="from 0 to 4"):
        env.step(action)
    after, *_ = env.step(np.int64(3))
    assert (after["element"] == 4).sum() == 1
    assert observation["focus"] != after["focus"]


def test_methods_need_an_episode(toy):
    env = CrystalSkeletonEnv(collection=toy, render_mode="ansi")
    for call in (lambda: env.step(0), env.render, env.action_masks, env.expert_action):
        with pytest.raises(gym.error.ResetNeeded, match="reset"):
            call()
    play(env, lambda *_: 0)
    with pytest.raises(crystal_gym.CrystalGymError, match="over: all sites are filled"):
        env.step(0)
