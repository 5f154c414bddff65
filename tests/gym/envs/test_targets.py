"""Targets: requested labels as part of the observation."""

import dataclasses
import logging

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import crystal_gym
from crystal_gym.envs.generator import InstanceGenerator
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.errors import TargetRangeWarning


@pytest.fixture(scope="module")
def labeled(toy):
    labels = {"gap": np.arange(12) / 4, "heat": -np.arange(12.0)}
    labels["heat"][[0, 3]] = np.nan
    return dataclasses.replace(toy, labels=labels)


def test_own_labels_are_the_target(labeled):
    vector = CrystalSkeletonVectorEnv(6, collection=labeled, split="all", target=["heat", "gap"])
    observation, infos = vector.reset(seed=0)
    for _ in range(30):
        assert observation["target"].dtype == np.float32
        rows = infos["crystal"]
        assert observation["target"].tolist() == [[-row, row / 4] for row in rows.tolist()]
        assert not np.isin(rows, [0, 3]).any()
        assert observation in vector.observation_space
        observation, *_, infos = vector.step(vector.expert_action())


def test_targets_of_the_split_do_not_depend_on_the_crystal(labeled):
    generator = InstanceGenerator(labeled, split="train", target="heat", target_from="split")
    drawn = generator.draw(np.random.default_rng(0), 3000)
    train = labeled.in_split("train")
    assert set(drawn.crystal.tolist()) == set(train.tolist())
    pairs = {(int(row), float(t)) for row, t in zip(drawn.crystal, drawn.target[:, 0], strict=True)}
    known = [-row for row in train.tolist() if row not in {0, 3}]
    assert pairs == {(row, value) for row in train.tolist() for value in known}


@pytest.mark.parametrize("settings", [
    {"target": ["gap"]}, {"target": ["gap"], "target_from": "split"}, {"target": {"gap": 2.5}},
])  # fmt: skip
def test_a_batch_draws_the_same_targets_as_single_draws(labeled, settings):
    generator = InstanceGenerator(labeled, split="all", traversal="random", **settings)
    batch = generator.draw(np.random.default_rng(3), 40)
    rng = np.random.default_rng(3)
    for index in range(40):
        single = generator.draw(rng)
        assert single.crystal == batch.crystal[index]
        assert single.order.tolist() == batch.order[index].tolist()
        assert single.target.tolist() == batch.target[index].tolist()


def test_fixed_and_given_targets(labeled):
    env = CrystalSkeletonEnv(collection=labeled, target={"gap": 1.5, "heat": -1})
    assert env.reset(seed=0)[0]["target"].tolist() == [1.5, -1]
    given = {"target": {"heat": -7, "gap": 0.5}}
    assert env.reset(options=given)[0]["target"].tolist() == [0.5, -7]
    assert env.step(0)[0]["target"].tolist() == [0.5, -7]
    settings = {"target": "gap", "autoreset_mode": "Disabled"}
    vector = CrystalSkeletonVectorEnv(2, collection=labeled, **settings)
    observation, _ = vector.reset(seed=0, options={"target": [2.5]})
    assert observation["target"].tolist() == [[2.5], [2.5]]
    mask = np.array([False, True])
    observation, _ = vector.reset(options={"reset_mask": mask, "target": [[1.0], [2.0]]})
    assert observation["target"].tolist() == [[2.5], [2]]


def test_targets_outside_the_labels_are_reported(labeled):
    message = r"Expected the target 'gap' from 0 to 2.75, .* of 'toy', got 9.*in the range"
    with pytest.warns(TargetRangeWarning, match=message):
        env = CrystalSkeletonEnv(collection=labeled, target={"gap": 9})
    assert env.reset(seed=0)[0]["target"].tolist() == [9]
    vector = CrystalSkeletonVectorEnv(2, collection=labeled, target=["gap", "heat"])
    with pytest.warns(TargetRangeWarning, match="Expected the target 'heat' from -11 to -1"):
        vector.reset(seed=0, options={"target": [[1.0, -3.0], [1.0, 0.5]]})


def test_crystals_without_labels_are_reported(labeled, caplog):
    with caplog.at_level(logging.WARNING):
        CrystalSkeletonEnv(collection=labeled, split="all", target="heat")
    assert "heat are unknown for 2 of 12 crystals" in caplog.text


def test_check_env_accepts_targets(labeled):
    env = gym.make("CrystalSkeleton-v0", collection=labeled, target="gap", target_from="split")
    check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "mass"}, "Unknown label of 'toy': 'mass'"),
        ({"target": ["gap", "gap"]}, "different names of labels"),
        ({"target": [1.5]}, "different names of labels"),
        ({"target": {"gap": np.nan}}, "Expected the target 'gap' to be a finite number"),
        ({"target": "gap", "target_from": "train"}, "Unknown target_from 'train'"),
    ],
)
def test_invalid_targets_are_rejected(labeled, settings, message):
    with pytest.raises(crystal_gym.CrystalGymError, match=message):
        CrystalSkeletonEnv(collection=labeled, **settings)


def test_a_split_without_labels_is_rejected(labeled):
    crystals = dataclasses.replace(labeled, labels={"heat": np.full(12, np.nan)})
    with pytest.raises(crystal_gym.CrystalGymError, match="with the labels heat, got none"):
        CrystalSkeletonEnv(collection=crystals, target="heat")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": [1, 2]}, r"shape \(1,\) for reset option 'target'"),
        ({"target": [np.inf]}, "Expected finite values"),
        ({"target": {"gap": 1}}, r"with the names \['heat'\], got \['gap'\]"),
        ({"crystal": "toy-0"}, "Expected a crystal whose labels heat are known, got 'toy-0'"),
    ],
)
def test_invalid_target_options_are_rejected(labeled, options, message):
    env = CrystalSkeletonEnv(collection=labeled, target="heat")
    with pytest.raises(crystal_gym.CrystalGymError, match=message):
        env.reset(options=options)
