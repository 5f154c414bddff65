"""The reward ``target``: distances between the labels of finished crystals and the target."""

import dataclasses

import numpy as np
import pytest

from crystal_gym.collections import load_collection
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode import EpisodeTable, finished
from crystal_gym.errors import CrystalGymError, RewardError, UnknownNameError
from crystal_gym.rewards import TargetReward


@pytest.fixture(scope="module")
def crystals():
    """Return forty cubic ABX3 crystals with two labels; the labels of the last two are unknown."""
    collection = load_collection("goldschmidt", progress=False)
    collection = collection.take(np.random.default_rng(0).permutation(len(collection))[:40])
    rng = np.random.default_rng(1)
    labels = {"gap": rng.exponential(2, 40), "heat": rng.normal(size=40)}
    labels["gap"][-2:] = np.nan
    return dataclasses.replace(collection, name="labeled", labels=labels)


def test_the_expert_reaches_its_own_target(crystals):
    env = CrystalSkeletonEnv(
        collection=crystals, split="all", target=["gap", "heat"], reward="target"
    )
    for seed in range(5):
        env.reset(seed=seed)
        terminated = False
        while not terminated:
            _, reward, terminated, _, info = env.step(env.expert_action())
        assert reward == pytest.approx(0, abs=1e-6)  # targets are float32
        assert info["distance"] == -reward
        assert info["labeled"] == 1


def test_distances_are_means_in_standard_deviations(crystals):
    table = EpisodeTable(crystals, target=("gap", "heat"))
    skeletons, others = np.arange(38), np.arange(38)[::-1]
    state = finished(table, skeletons, table.true_elements[others])
    rewards, components = TargetReward().on_finish(table, state)
    gap, heat = crystals.labels["gap"][:38], crystals.labels["heat"]
    of_gap = np.abs(gap[others] - gap[skeletons]) / gap.std()
    of_heat = np.abs(heat[others] - heat[skeletons]) / heat.std()
    expected = (of_gap + of_heat) / 2
    assert np.allclose(components["distance"], expected, atol=1e-6)
    assert np.array_equal(rewards, -components["distance"])
    assert components["labeled"].all()


def test_missing_labels(crystals):
    table = EpisodeTable(crystals, target=("gap",))
    state = finished(table, np.array([0, 0, 1]), table.true_elements[[0, 39, 38]])
    state.elements[2] = 1  # not in the collection
    gap = crystals.labels["gap"]
    rewards, components = TargetReward().on_finish(table, state)
    known = gap[:38]
    farthest = [max(known.max() - t, t - known.min()) / known.std() for t in gap[[0, 1]]]
    assert np.allclose(rewards, [0, -farthest[0], -farthest[1]], atol=1e-6)
    assert components["labeled"].tolist() == [1, 0, 0]
    assert np.isnan(components["distance"]).tolist() == [False, True, True]
    assert np.isnan(TargetReward("nan").on_finish(table, state)[0]).tolist() == [False, True, True]
    with pytest.raises(RewardError, match=r"The labels gap of .* are unknown"):
        TargetReward("error").on_finish(table, state)
    with pytest.raises(UnknownNameError, match="policy for missing labels"):
        TargetReward("zero")


def test_given_targets_count(crystals):
    vector = CrystalSkeletonVectorEnv(
        2, collection=crystals, split="all", target="heat", reward="target",
        autoreset_mode="Disabled",
    )  # fmt: skip
    vector.reset(seed=0, options={"crystal": 3, "target": [[0.5], [1.0]]})
    for _ in range(5):
        _, rewards, *_ = vector.step(vector.expert_action())
    heat = crystals.labels["heat"]
    assert np.allclose(rewards, -np.abs(heat[3] - np.array([0.5, 1])) / heat.std(), atol=1e-6)


def test_the_reward_needs_a_target(crystals, toy):
    with pytest.raises(CrystalGymError, match="Expected an environment with targets"):
        CrystalSkeletonEnv(collection=crystals, reward="target")
    labeled = dataclasses.replace(toy, labels={"gap": np.ones(12)})
    with pytest.raises(CrystalGymError, match="Expected cubic cells"):
        CrystalSkeletonEnv(collection=labeled, reward="target", target="gap")
