"""Rewards, alone and in the environment."""

from types import SimpleNamespace

import numpy as np
import pytest

from crystal_gym.env import CrystalSkeletonEnv
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards import (
    REWARDS,
    FunctionReward,
    MatchReward,
    Reward,
    ValidityReward,
    finish,
    fraction_matched,
    resolve_reward,
)
from crystal_gym.validity import is_valid


def play(env, action, **options):
    env.reset(seed=0, options=options)
    total, terminated = 0.0, False
    while not terminated:
        _, reward, terminated, _, info = env.step(action)
        total += reward
    return total, info


def test_match_pays_elementwise_as_for_one(toy):
    table, reward = EpisodeTable(toy), MatchReward()
    rng = np.random.default_rng(0)
    crystal = rng.integers(0, 12, 200)
    site = (rng.random(200) * table.n_sites[crystal]).astype(int)
    element = rng.integers(1, 6, 200)
    paid = reward.on_fill(table, crystal, site, element)
    one_by_one = [
        reward.on_fill(table, *each)
        for each in zip(crystal.tolist(), site.tolist(), element.tolist(), strict=True)
    ]
    assert paid.tolist() == one_by_one
    right = table.true[crystal, site] == element
    assert np.allclose(paid, right / table.n_sites[crystal])
    assert right.any()


def test_the_fraction_matched_leaves_padding_out(toy):
    table = EpisodeTable(toy, max_sites=9)
    crystal = np.arange(12)
    assert np.allclose(fraction_matched(table, crystal, table.true), 1)
    assert np.allclose(fraction_matched(table, crystal, table.blank), 0)
    one_wrong = table.true.copy()
    one_wrong[:, 0] = one_wrong[:, 0] % 5 + 1
    assert np.allclose(fraction_matched(table, crystal, one_wrong), 1 - 1 / table.n_sites)


@pytest.mark.parametrize("n", [1, 3, 49, 107])
def test_all_sites_right_is_exactly_one(n):
    made = SimpleNamespace(
        max_sites=n, n_sites=np.array([n]), true=np.ones((1, n), int), site_share=np.array([1 / n])
    )
    assert fraction_matched(made, np.array([0]), made.true).tolist() == [1.0]


def test_the_validity_reward_is_smacts_word_on_the_finished_crystal(toy):
    table = EpisodeTable(toy)
    for rule in ("smact14", "strict"):
        last, components = finish(ValidityReward(rule), table, np.arange(12), table.true)
        assert np.array_equal(last, is_valid(toy.atomic_numbers, rule))
        assert np.array_equal(components["validity"], last)
        assert np.allclose(components["match"], 1)


def test_filling_with_one_element_is_valid_by_the_papers_measure_only(toy):
    oxygen = toy.vocabulary.symbols.index("O")
    total, info = play(CrystalSkeletonEnv(collection=toy, reward="validity"), oxygen, crystal=5)
    assert total == info["validity"] == 1
    strict = CrystalSkeletonEnv(collection=toy, reward=ValidityReward("strict"))
    total, info = play(strict, oxygen, crystal=5)
    assert total == info["validity"] == 0


def test_a_function_is_paid_for_the_finished_structure(toy):
    seen = []

    def density(structure):
        seen.append(structure)
        return structure.density

    env = CrystalSkeletonEnv(collection=toy, reward=density)
    total, info = play(env, 2, crystal=5)
    assert total == info["score"] == pytest.approx(seen[0].density)
    expected = toy.skeleton(5).fill([toy.vocabulary.symbols[2]] * 6)
    assert seen == [expected]


def test_a_function_must_return_a_number(toy):
    with pytest.raises(CrystalGymError, match=r"must return a number; for .* it returned None"):
        play(CrystalSkeletonEnv(collection=toy, reward=lambda _: None), 0)


def test_a_reward_may_pay_for_steps_and_ends_together(toy):
    class Both(Reward):
        def on_fill(self, table, crystal, site, element):
            return 0.25

        def on_finish(self, table, crystal, elements):
            return np.full(len(crystal), 10.0), {"bonus": np.full(len(crystal), 10.0)}

    total, info = play(CrystalSkeletonEnv(collection=toy, reward=Both()), 0, crystal=5)
    assert total == pytest.approx(6 * 0.25 + 10)
    assert info["bonus"] == 10
    assert 0 <= info["match"] <= 1


def test_the_base_reward_pays_nothing(toy):
    total, info = play(CrystalSkeletonEnv(collection=toy, reward=Reward()), 0)
    assert total == 0
    assert set(info) == {"action_mask", "crystal", "source", "match"}


def test_rewards_are_resolved_by_name_object_and_function():
    assert isinstance(resolve_reward("match"), MatchReward)
    assert isinstance(resolve_reward("validity"), ValidityReward)
    reward = ValidityReward("icsd24")
    assert resolve_reward(reward) is reward
    assert isinstance(resolve_reward(len), FunctionReward)


def test_unknown_rewards_and_rules_are_named():
    with pytest.raises(UnknownNameError, match=r"Unknown reward 'valid'. Did you mean 'validity'"):
        resolve_reward("valid")
    with pytest.raises(CrystalGymError, match="A reward is a name"):
        resolve_reward(MatchReward)
    with pytest.raises(UnknownNameError, match="validity rule 'loose'"):
        ValidityReward("loose")


@pytest.mark.real
def test_real_validity_agrees_with_direct_calls(perov5):
    from smact.screening import smact_validity

    table = EpisodeTable(perov5)
    rows = perov5.in_split("test")[:60]
    last, _ = finish(ValidityReward(), table, rows, table.true[rows])
    direct = [
        smact_validity(
            perov5.structure(int(row)).composition,
            oxidation_states_set="smact14",
            include_alloys=True,
        )
        for row in rows
    ]
    assert last.astype(bool).tolist() == direct
