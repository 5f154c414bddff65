"""The rewards match, validity and function, alone and in the environment."""

from types import SimpleNamespace

import numpy as np
import pytest
from env_episodes import play_constant

from crystal_gym.crystals.validity import is_valid, rule_description
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.episode import EpisodeTable, finished, start
from crystal_gym.rewards import MatchReward, Reward, ValidityReward, finish, fraction_matched


def test_match_of_a_batch_equals_match_of_single_crystals(toy):
    table, reward = EpisodeTable(toy), MatchReward()
    rng = np.random.default_rng(0)
    crystal = rng.integers(0, 12, 200)
    site = (rng.random(200) * table.n_sites[crystal]).astype(int)
    element = rng.integers(1, 6, 200)
    orders = table.breadth_first(crystal, site)
    batch = reward.on_fill(table, start(table, crystal, orders), element)
    single = [
        reward.on_fill(table, start(table, row, order), code)
        for row, order, code in zip(crystal.tolist(), orders, element.tolist(), strict=True)
    ]
    assert batch.tolist() == single
    matched = table.true_elements[crystal, site] == element
    assert np.allclose(batch, matched / table.n_sites[crystal])
    assert matched.any()


def test_fraction_matched_ignores_padding(toy):
    table = EpisodeTable(toy, max_sites=9)
    state = finished(table, np.arange(12), table.true_elements)
    assert np.allclose(fraction_matched(table, state), 1)
    state.elements = table.blank
    assert np.allclose(fraction_matched(table, state), 0)
    one_error = table.true_elements.copy()
    one_error[:, 0] = one_error[:, 0] % 5 + 1
    state.elements = one_error
    assert np.allclose(fraction_matched(table, state), 1 - 1 / table.n_sites)


@pytest.mark.parametrize("n", [1, 3, 49, 107])
def test_fraction_matched_is_exactly_one_for_the_true_elements(n):
    table = SimpleNamespace(
        max_sites=n,
        n_sites=np.array([n]),
        true_elements=np.ones((1, n), int),
    )
    state = SimpleNamespace(
        crystal=np.zeros(1, int),
        elements=table.true_elements,
        n_sites=table.n_sites,
        n_kept=np.zeros(1, int),
    )
    assert fraction_matched(table, state).tolist() == [1.0]


def test_validity_reward_agrees_with_is_valid(toy):
    table = EpisodeTable(toy)
    for rule in ("smact14", "strict"):
        assert ValidityReward(rule).definition == f"validity: rule {rule_description(rule)}"
        last, components = finish(
            ValidityReward(rule), table, finished(table, np.arange(12), table.true_elements)
        )
        assert np.array_equal(last, is_valid(toy.atomic_numbers, rule))
        assert np.array_equal(components["validity"], last)
        assert np.allclose(components["match"], 1)


def test_single_element_is_valid_by_default_and_invalid_under_strict(toy):
    oxygen = toy.vocabulary.symbols.index("O")
    env = CrystalSkeletonEnv(collection=toy, reward="validity")
    total, info = play_constant(env, oxygen, crystal=5)
    assert total == info["validity"] == 1
    strict = CrystalSkeletonEnv(collection=toy, reward=ValidityReward("strict"))
    total, info = play_constant(strict, oxygen, crystal=5)
    assert total == info["validity"] == 0


def test_function_reward_gets_the_finished_structure(toy):
    structures = []

    def density(structure):
        structures.append(structure)
        return structure.density

    env = CrystalSkeletonEnv(collection=toy, reward=density)
    total, info = play_constant(env, 2, crystal=5)
    assert total == info["score"] == pytest.approx(structures[0].density)
    expected = toy.skeleton(5).fill([toy.vocabulary.symbols[2]] * 6)
    assert structures == [expected]


def test_rewards_of_steps_and_of_the_end_are_added(toy):
    class StepAndEndReward(Reward):
        components = ("bonus",)

        def on_fill(self, table, state, element):
            return 0.25

        def on_finish(self, table, state):
            return np.full(len(state.crystal), 10.0), {"bonus": np.full(len(state.crystal), 10.0)}

    env = CrystalSkeletonEnv(collection=toy, reward=StepAndEndReward())
    total, info = play_constant(env, 0, crystal=5)
    assert total == pytest.approx(6 * 0.25 + 10)
    assert info["bonus"] == 10
    assert 0 <= info["match"] <= 1


def test_base_reward_is_zero(toy):
    total, info = play_constant(CrystalSkeletonEnv(collection=toy, reward=Reward()), 0)
    assert total == 0
    assert set(info) == {"action_mask", "crystal", "start_site", "match"}


@pytest.mark.real
def test_validity_of_real_crystals_agrees_with_smact(perov5):
    from smact.screening import smact_validity

    table = EpisodeTable(perov5)
    rows = perov5.in_split("test")[:60]
    last, _ = finish(ValidityReward(), table, finished(table, rows, table.true_elements[rows]))
    direct = [
        smact_validity(
            perov5.structure(int(row)).composition,
            oxidation_states_set="smact14",
            include_alloys=True,
        )
        for row in rows
    ]
    assert last.astype(bool).tolist() == direct
