"""The mask ``composition``: agents that follow it give crystals their true compositions."""

import gymnasium as gym
import numpy as np
import pytest

from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode import EpisodeTable, fill, start
from crystal_gym.errors import CrystalGymError
from crystal_gym.masks.composition import composition, count_elements


@pytest.mark.parametrize("settings", [{}, {"start": "partial", "keep": 0.5}])
def test_random_allowed_actions_give_the_true_composition(toy, settings):
    vector = CrystalSkeletonVectorEnv(
        30, collection=toy, split="all", mask="composition", autoreset_mode="Disabled", **settings
    )
    _, infos = vector.reset(seed=0)
    rng = np.random.default_rng(0)
    running = np.ones(30, bool)
    while running.any():
        mask = infos["action_mask"]
        assert mask.any(axis=1).all()
        assert mask[np.arange(30), vector.expert_action()][running].max() == 1
        action = np.where(mask == 1, rng.random(mask.shape), -1).argmax(axis=1)
        observation, _, terminated, _, infos = vector.step(action)
        if terminated.any():
            row = infos["crystal"]
            true = count_elements(toy.codes()[row], 5)[terminated]
            assert np.array_equal(count_elements(observation["element"], 5)[terminated], true)
            assert infos["action_mask"][terminated].all()
            running &= ~terminated
            _, infos = vector.reset(options={"reset_mask": terminated})


def test_missing_elements_are_counted(toy):
    table = EpisodeTable(toy)
    row = int(np.argmax(toy.n_sites))
    state = start(table, row, table.breadth_first(row, 0))
    true = toy.codes()[row, : toy.n_sites[row]].tolist()
    for _ in true:
        allowed = composition(table, state)
        placed = state.elements[state.elements > 0].tolist()
        expected = [true.count(code) > placed.count(code) for code in range(1, 6)]
        assert allowed.tolist() == expected
        # Fill with the first element of the vocabulary, which soon exceeds the composition.
        fill(state, 0)
    assert composition(table, state).all()


def test_the_table_of_a_skeleton_has_no_composition(toy):
    table = EpisodeTable.from_skeleton(toy.skeleton(5), toy.vocabulary)
    with pytest.raises(CrystalGymError, match="true elements are unknown"):
        composition(table, start(table, 0, table.breadth_first(0, 0)))


def test_the_mask_is_available_by_name(toy):
    env = gym.make("CrystalSkeleton-v0", collection=toy, mask="composition")
    _, info = env.reset(seed=0, options={"crystal": "toy-5"})
    expected = np.isin(np.arange(1, 6), toy.codes()[5])
    assert info["action_mask"].astype(bool).tolist() == expected.tolist()
