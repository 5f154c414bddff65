"""Rewards by name, by mapping, by object and by function."""

import json
from pathlib import Path

import gymnasium as gym
import pytest

from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards import (
    REWARDS,
    FunctionReward,
    MatchReward,
    Reward,
    ValidityReward,
    WeightedSum,
    resolve_reward,
)


def test_rewards_are_resolved_by_name_object_and_function():
    assert isinstance(resolve_reward("match"), MatchReward)
    for name, rule in (
        ("validity", "smact14"), ("validity-strict", "strict"), ("validity-icsd24", "icsd24"),
    ):  # fmt: skip
        resolved = resolve_reward(name)
        assert isinstance(resolved, ValidityReward)
        assert resolved.rule == rule
    reward = ValidityReward("icsd24")
    assert resolve_reward(reward) is reward
    assert isinstance(resolve_reward(len), FunctionReward)
    for name in REWARDS:
        assert isinstance(resolve_reward(name), Reward)


def test_every_reward_name_is_documented():
    page = (Path(__file__).parents[3] / "docs" / "rewards.md").read_text()
    for name in REWARDS:
        assert f"`{name}`" in CrystalSkeletonEnv.__doc__
        assert f"`{name}`" in page


def test_mapping_with_one_reward_of_weight_one_is_that_reward():
    assert isinstance(resolve_reward({"match": 1}), MatchReward)
    assert isinstance(resolve_reward({"match": {}}), MatchReward)
    strict = resolve_reward({"validity": {"rule": "strict"}})
    assert isinstance(strict, ValidityReward)
    assert strict.rule == "strict"
    assert isinstance(resolve_reward({"match": 2}), WeightedSum)


def test_unknown_rewards_rules_and_parameters_are_rejected():
    with pytest.raises(UnknownNameError, match=r"Unknown reward 'valid'. Did you mean 'validity'"):
        resolve_reward("valid")
    with pytest.raises(UnknownNameError, match=r"reward 'mach'. Did you mean 'match'"):
        resolve_reward({"mach": 1.0})
    for argument in (MatchReward, None, 3, [("match", 1.0)]):
        with pytest.raises(CrystalGymError, match="Expected reward to be a name, a mapping"):
            resolve_reward(argument)
    with pytest.raises(UnknownNameError, match=r"validity rule \['strict'\]"):
        resolve_reward({"validity": {"rule": ["strict"]}})
    with pytest.raises(UnknownNameError, match="validity rule 'loose'"):
        ValidityReward("loose")
    with pytest.raises(UnknownNameError, match=r"reward 'validity': 'rul'. Did you mean 'rule'"):
        resolve_reward({"validity": {"rul": "strict"}})
    with pytest.raises(UnknownNameError, match=r"'match': 'target'.* Known: weight\."):
        resolve_reward({"match": {"target": 1.5}})


def test_mappings_are_preserved_in_the_spec_of_an_environment():
    weights = {"match": 1.0, "validity": {"weight": 0.5, "rule": "strict"}}
    env = gym.make("CrystalSkeleton-v0", reward=weights)
    spec = gym.envs.registration.EnvSpec.from_json(env.spec.to_json())
    assert spec.kwargs["reward"] == json.loads(json.dumps(weights)) == weights
    remade = gym.make(spec)
    (_, match), (weight, strict) = remade.unwrapped.reward.parts.values()
    assert isinstance(match, MatchReward)
    assert (weight, strict.rule) == (0.5, "strict")
