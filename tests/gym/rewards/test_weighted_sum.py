"""Weighted sums of rewards."""

import numpy as np
import pytest
from env_episodes import play_constant

from crystal_gym.crystals.validity import is_valid
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode import EpisodeTable, finished, start
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards import (
    FunctionReward,
    MatchReward,
    Reward,
    ValidityReward,
    WeightedSum,
    finish,
    resolve_reward,
)

WEIGHTS = {"match": 2.0, "validity-strict": -0.5, "validity": 0}


def test_sum_weighs_the_rewards_of_steps_and_ends(toy):
    table, rows = EpisodeTable(toy), np.arange(12)
    total = resolve_reward(WEIGHTS)
    assert isinstance(total, WeightedSum)
    filled = np.where(table.true_elements > 0, 1 + table.true_elements % 5, -1)
    site = table.n_sites - 1
    before = start(table, rows, table.breadth_first(rows, site))
    arguments = table, before, filled[rows, site]
    assert np.array_equal(total.on_fill(*arguments), 2.0 * MatchReward().on_fill(*arguments))
    last, components = finish(total, table, finished(table, rows, table.true_elements))
    strict, default = is_valid(toy.atomic_numbers, "strict"), is_valid(toy.atomic_numbers)
    assert np.array_equal(last, -0.5 * strict)
    assert np.array_equal(components["validity-strict/validity"], strict)
    assert np.array_equal(components["validity/validity"], default)
    assert set(components) == {"validity-strict/validity", "validity/validity", "match"}
    assert not np.array_equal(strict, default)


def test_definition_joins_those_of_the_parts():
    strict, default = ValidityReward("strict"), ValidityReward()
    assert resolve_reward(WEIGHTS).definition == f"{strict.definition}; {default.definition}"
    assert MatchReward().definition is None
    assert WeightedSum({"a": (1, MatchReward())}).definition is None


def test_step_rewards_of_the_parts_are_added(toy):
    table, rows = EpisodeTable(toy), np.arange(12)
    reward = WeightedSum({"a": (2.0, MatchReward()), "b": (-0.5, MatchReward())})
    before = start(table, rows, table.breadth_first(rows, 0))
    arguments = table, before, table.true_elements[:, 0]
    assert np.allclose(reward.on_fill(*arguments), 1.5 / table.n_sites)


def test_single_and_vector_environment_return_the_same_sum(toy):
    total, info = play_constant(CrystalSkeletonEnv(collection=toy, reward=WEIGHTS), 2, crystal=5)
    expected = 2.0 * info["match"] - 0.5 * info["validity-strict/validity"]
    assert total == pytest.approx(expected)
    vector = CrystalSkeletonVectorEnv(3, collection=toy, reward=WEIGHTS)
    vector.reset(seed=0, options={"crystal": 5})
    totals = np.zeros(3)
    for _ in range(6):
        _, rewards, _, _, infos = vector.step(np.full(3, 2))
        totals += rewards
    assert np.allclose(totals, total)
    assert infos["validity/validity"].tolist() == [info["validity/validity"]] * 3


def test_part_of_weight_zero_adds_nothing_even_if_it_is_nan(toy):
    class NanReward(Reward):
        components = ("nan",)

        def on_fill(self, table, state, element):
            return np.nan

        def on_finish(self, table, state):
            return np.full(len(state.crystal), np.nan), {"nan": np.ones(len(state.crystal))}

    reward = WeightedSum({"a": (0.0, NanReward()), "b": (1.0, MatchReward())})
    total, info = play_constant(CrystalSkeletonEnv(collection=toy, reward=reward), 0)
    assert total == info["match"]
    assert info["a/nan"] == 1


def test_components_of_nested_sums_and_repeated_rewards_are_distinct(toy):
    inner = WeightedSum({"light": (1.0, FunctionReward(lambda s: -s.density))})
    reward = WeightedSum({
        "inner": (2.0, inner),
        "sites": (1.0, FunctionReward(len)),
        "cell": (0.1, FunctionReward(lambda s: s.volume)),
    })  # fmt: skip
    env = CrystalSkeletonEnv(collection=toy, reward=reward)
    total, info = play_constant(env, 1, crystal=5)
    assert info["sites/score"] == 6
    assert total == pytest.approx(2 * info["inner/light/score"] + 6 + 0.1 * info["cell/score"])


def test_sum_depends_on_the_labels_of_all_parts():
    class LabeledReward(Reward):
        def __init__(self, *labels):
            self.labels = labels

    parts = {"a": (1.0, LabeledReward("gap", "heat")), "b": (0.0, LabeledReward("gap", "age"))}
    assert WeightedSum(parts).labels == ("age", "gap", "heat")


def test_parts_are_prepared_with_the_crystals_of_the_environment(toy):
    class RecordingReward(Reward):
        def prepare(self, table):
            self.table = table

    parts = {"a": (1.0, RecordingReward()), "b": (1.0, RecordingReward())}
    env = CrystalSkeletonEnv(collection=toy, reward=WeightedSum(parts))
    assert all(part.table is env.table for _, part in parts.values())


def test_invalid_weights_and_parts_are_rejected():
    for weight in (np.nan, np.inf, None, "1", True, [1.0]):
        message = "Expected the weight of reward 'match' to be a finite number, got"
        with pytest.raises(CrystalGymError, match=message):
            resolve_reward({"validity": 1.0, "match": weight})
        with pytest.raises(CrystalGymError, match=message):
            resolve_reward({"match": {"weight": weight}})
    with pytest.raises(CrystalGymError, match="at least one reward"):
        resolve_reward({})
    with pytest.raises(CrystalGymError, match="Expected part 'match' of a weighted sum"):
        WeightedSum({"match": (1.0, "match")})
