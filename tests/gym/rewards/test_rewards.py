"""Rewards, alone and in the environment."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from crystal_gym.crystals.validity import is_valid
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards import (
    REWARDS,
    FailureHandler,
    FunctionReward,
    MatchReward,
    Reward,
    RewardError,
    ValidityReward,
    WeightedSum,
    finish,
    fraction_matched,
    resolve_reward,
)


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
    right = table.true_elements[crystal, site] == element
    assert np.allclose(paid, right / table.n_sites[crystal])
    assert right.any()


def test_the_fraction_matched_leaves_padding_out(toy):
    table = EpisodeTable(toy, max_sites=9)
    crystal = np.arange(12)
    assert np.allclose(fraction_matched(table, crystal, table.true_elements), 1)
    assert np.allclose(fraction_matched(table, crystal, table.blank), 0)
    one_wrong = table.true_elements.copy()
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
        last, components = finish(ValidityReward(rule), table, np.arange(12), table.true_elements)
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
    for wrong in (None, "much", [1.0, 2.0], 10**400):
        env = CrystalSkeletonEnv(collection=toy, reward=lambda _, wrong=wrong: wrong)
        with pytest.raises(RewardError, match=r"a number; for O6 on skeleton 'toy-5' it returned"):
            play(env, 0, crystal=5)


def test_a_function_that_raises_is_an_error_that_names_the_crystal(toy):
    def division(structure):
        return 1 / (len(structure) - 6)

    env = CrystalSkeletonVectorEnv(12, collection=toy, split="all", reward=division)
    env.reset(seed=0, options={"crystal": np.arange(12)})
    for _ in range(5):
        env.step(env.expert_action())
    message = f"failed on {toy.formula(5)} on skeleton 'toy-5': ZeroDivisionError: "
    with pytest.raises(RewardError, match=message) as caught:
        env.step(env.expert_action())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_errors_made_for_the_user_keep_their_kind(toy):
    def strange(structure):
        raise UnknownNameError("model", "chgnut", ["chgnet"])

    with pytest.raises(UnknownNameError, match="Did you mean 'chgnet'"):
        play(CrystalSkeletonEnv(collection=toy, reward=strange), 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_value_among_1024_is_survived_and_told(toy, bad, caplog):
    calls = []

    def mostly_fine(structure):
        calls.append(structure)
        return bad if len(calls) in {700, 1500} else 1.5

    env = CrystalSkeletonVectorEnv(
        1024,
        collection=toy,
        reward=FunctionReward(mostly_fine, fallback=-3.0),
        autoreset_mode="SameStep",
    )
    env.reset(seed=0, options={"crystal": 5})
    with caplog.at_level(logging.WARNING):
        for _ in range(6):
            _, rewards, ends, _, infos = env.step(env.expert_action())
        assert ends.all()
        assert np.flatnonzero(rewards == -3.0).tolist() == [699]
        assert (np.delete(rewards, 699) == 1.5).all()
        told = infos["final_info"]
        assert np.flatnonzero(told["failed"]).tolist() == [699]
        assert np.array_equal(told["score"][[699, 700]], [bad, 1.5], equal_nan=True)
        assert (told["failures"] == 1).all()
        while len(calls) < 1500:
            _, rewards, ends, _, infos = env.step(env.expert_action())
            assert np.isfinite(rewards).all()
    assert infos["final_info"]["failures"].max() == 2
    (record,) = caplog.records
    assert f"{toy.formula(5)} on skeleton 'toy-5' is {bad}; -3.0 is paid" in record.getMessage()


def test_the_fallback_is_a_finite_number(toy):
    for wrong in (np.nan, np.inf, None, "0", False):
        with pytest.raises(CrystalGymError, match="The fallback of a reward is a finite number"):
            FailureHandler(wrong)
    table = EpisodeTable(toy)
    values = np.array([1.0, np.nan, -np.inf, 2.0])
    failures = FailureHandler(-1)
    paid, told = failures.replace_failures(table, np.arange(4), table.true_elements[:4], values)
    assert paid.tolist() == [1, -1, -1, 2]
    assert told["failed"].tolist() == [0, 1, 1, 0]
    assert failures.count == 2


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
    assert set(info) == {"action_mask", "crystal", "start_site", "match"}


def test_rewards_are_resolved_by_name_object_and_function():
    assert isinstance(resolve_reward("match"), MatchReward)
    for name, rule in (
        ("validity", "smact14"), ("validity-strict", "strict"), ("validity-icsd24", "icsd24"),
    ):  # fmt: skip
        made = resolve_reward(name)
        assert isinstance(made, ValidityReward)
        assert made.rule == rule
    reward = ValidityReward("icsd24")
    assert resolve_reward(reward) is reward
    assert isinstance(resolve_reward(len), FunctionReward)
    for name in REWARDS:
        assert isinstance(resolve_reward(name), Reward)


def test_every_named_reward_stands_in_the_documents():
    page = (Path(__file__).parents[3] / "docs" / "rewards.md").read_text()
    for name in REWARDS:
        assert f"`{name}`" in CrystalSkeletonEnv.__doc__
        assert f"`{name}`" in page


def test_unknown_rewards_rules_and_parameters_are_named():
    with pytest.raises(UnknownNameError, match=r"Unknown reward 'valid'. Did you mean 'validity'"):
        resolve_reward("valid")
    with pytest.raises(UnknownNameError, match=r"reward 'mach'. Did you mean 'match'"):
        resolve_reward({"mach": 1.0})
    for wrong in (MatchReward, None, 3, [("match", 1.0)]):
        with pytest.raises(CrystalGymError, match="A reward is a name, a mapping"):
            resolve_reward(wrong)
    with pytest.raises(UnknownNameError, match=r"validity rule \['strict'\]"):
        resolve_reward({"validity": {"rule": ["strict"]}})
    with pytest.raises(UnknownNameError, match="validity rule 'loose'"):
        ValidityReward("loose")
    with pytest.raises(UnknownNameError, match=r"reward 'validity': 'rul'. Did you mean 'rule'"):
        resolve_reward({"validity": {"rul": "strict"}})
    with pytest.raises(UnknownNameError, match=r"'match': 'target'.* Known: weight\."):
        resolve_reward({"match": {"target": 1.5}})


def test_a_weighted_sum_is_the_sum_of_its_parts(toy):
    """Steps and ends, in both environments; parts of weight 0 only tell."""
    weights = {"match": 2.0, "validity-strict": -0.5, "validity": 0}
    table, rows = EpisodeTable(toy), np.arange(12)
    total = resolve_reward(weights)
    assert isinstance(total, WeightedSum)
    filled = np.where(table.true_elements > 0, 1 + table.true_elements % 5, -1)
    site = table.n_sites - 1
    args = table, rows, site, filled[rows, site]
    assert np.array_equal(total.on_fill(*args), 2.0 * MatchReward().on_fill(*args))
    last, told = finish(total, table, rows, table.true_elements)
    strict, paper = is_valid(toy.atomic_numbers, "strict"), is_valid(toy.atomic_numbers)
    assert np.array_equal(last, -0.5 * strict)
    assert np.array_equal(told["validity-strict/validity"], strict)
    assert np.array_equal(told["validity/validity"], paper)
    assert set(told) == {"validity-strict/validity", "validity/validity", "match"}
    assert not np.array_equal(strict, paper)
    paid, info = play(CrystalSkeletonEnv(collection=toy, reward=weights), 2, crystal=5)
    expected = 2.0 * info["match"] - 0.5 * info["validity-strict/validity"]
    assert paid == pytest.approx(expected)
    vector = CrystalSkeletonVectorEnv(3, collection=toy, reward=weights)
    vector.reset(seed=0, options={"crystal": 5})
    sums = np.zeros(3)
    for _ in range(6):
        _, rewards, _, _, infos = vector.step(np.full(3, 2))
        sums += rewards
    assert np.allclose(sums, paid)
    assert infos["validity/validity"].tolist() == [info["validity/validity"]] * 3


def test_a_part_of_weight_zero_pays_not_even_nan(toy):
    class Broken(Reward):
        def on_fill(self, table, crystal, site, element):
            return np.nan

        def on_finish(self, table, crystal, elements):
            return np.full(len(crystal), np.nan), {"broken": np.ones(len(crystal))}

    reward = WeightedSum({"a": (0.0, Broken()), "b": (1.0, MatchReward())})
    paid, info = play(CrystalSkeletonEnv(collection=toy, reward=reward), 0)
    assert paid == info["match"]
    assert info["a/broken"] == 1


def test_sums_of_sums_and_one_reward_twice_do_not_collide(toy):
    inner = WeightedSum({"light": (1.0, FunctionReward(lambda s: -s.density))})
    reward = WeightedSum({
        "inner": (2.0, inner),
        "sites": (1.0, FunctionReward(len)),
        "cell": (0.1, FunctionReward(lambda s: s.volume)),
    })  # fmt: skip
    paid, info = play(CrystalSkeletonEnv(collection=toy, reward=reward), 1, crystal=5)
    assert info["sites/score"] == 6
    assert paid == pytest.approx(2 * info["inner/light/score"] + 6 + 0.1 * info["cell/score"])


def test_the_only_part_of_a_mapping_is_that_reward_unless_weighted():
    assert isinstance(resolve_reward({"match": 1}), MatchReward)
    assert isinstance(resolve_reward({"match": {}}), MatchReward)
    strict = resolve_reward({"validity": {"rule": "strict"}})
    assert isinstance(strict, ValidityReward)
    assert strict.rule == "strict"
    assert isinstance(resolve_reward({"match": 2}), WeightedSum)


def test_bad_weights_are_told():
    for wrong in (np.nan, np.inf, None, "1", True, [1.0]):
        message = "The weight of reward 'match' is a finite number, not"
        with pytest.raises(CrystalGymError, match=message):
            resolve_reward({"validity": 1.0, "match": wrong})
        with pytest.raises(CrystalGymError, match=message):
            resolve_reward({"match": {"weight": wrong}})
    with pytest.raises(CrystalGymError, match="needs at least one reward"):
        resolve_reward({})
    with pytest.raises(CrystalGymError, match="Part 'match' of a weighted sum is a Reward"):
        WeightedSum({"match": (1.0, "match")})


def test_parts_are_prepared_with_the_environments_crystals(toy):
    class Curious(Reward):
        def prepare(self, table):
            self.table = table

    parts = {"a": (1.0, Curious()), "b": (1.0, Curious())}
    env = CrystalSkeletonEnv(collection=toy, reward=WeightedSum(parts))
    assert all(part.table is env.table for _, part in parts.values())


def test_sums_and_parameters_survive_the_spec_of_an_environment():
    weights = {"match": 1.0, "validity": {"weight": 0.5, "rule": "strict"}}
    env = gym.make("CrystalSkeleton-v0", reward=weights)
    spec = gym.envs.registration.EnvSpec.from_json(env.spec.to_json())
    assert spec.kwargs["reward"] == json.loads(json.dumps(weights)) == weights
    again = gym.make(spec)
    (_, match), (half, strict) = again.unwrapped.reward.parts.values()
    assert isinstance(match, MatchReward)
    assert (half, strict.rule) == (0.5, "strict")


@pytest.mark.real
def test_real_validity_agrees_with_direct_calls(perov5):
    from smact.screening import smact_validity

    table = EpisodeTable(perov5)
    rows = perov5.in_split("test")[:60]
    last, _ = finish(ValidityReward(), table, rows, table.true_elements[rows])
    direct = [
        smact_validity(
            perov5.structure(int(row)).composition,
            oxidation_states_set="smact14",
            include_alloys=True,
        )
        for row in rows
    ]
    assert last.astype(bool).tolist() == direct
