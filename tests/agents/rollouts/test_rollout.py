"""Roll-outs of many crystals: start sites, ranks, confidence and agreement with the environment."""

import gymnasium as gym
import numpy as np
import pytest
from small_policies import expert_scorer, small_policy

import crystal_gym  # noqa: F401 - registers the environment
from crystal_agents.policies.policy import PolicyScorer
from crystal_agents.rollouts.rollout import batch_by_size, roll_out
from crystal_datasets import choose_start_sites
from crystal_gym.episode import EpisodeTable


def test_batches_contain_each_crystal_once_with_distinct_start_sites(toy):
    table = EpisodeTable(toy)
    batches = list(batch_by_size(table, np.arange(len(toy)), n_start_sites=4))
    assert sorted(np.concatenate([b.crystals for b in batches])) == list(range(len(toy)))
    for batch in batches:
        n = table.n_sites[batch.crystals[0]]
        assert (table.n_sites[batch.crystals] == n).all()
        assert batch.start_sites.shape == (min(4, n), len(batch.crystals))
        for start_sites in batch.start_sites.T:
            assert len(set(start_sites)) == len(start_sites)
            assert start_sites.max() < n


def test_start_sites_equal_those_of_the_expert_datasets(toy):
    table = EpisodeTable(toy)
    chosen = choose_start_sites(toy.n_sites, 3, seed=4)
    for batch in batch_by_size(table, toy.in_split("test"), 3, seed=4):
        for s, crystal in enumerate(batch.crystals):
            expected = chosen[crystal][chosen[crystal] >= 0]
            assert batch.start_sites[:, s].tolist() == expected.tolist()


@pytest.mark.parametrize("teacher_forced", [False, True])
def test_the_expert_makes_no_mistakes(toy, teacher_forced):
    table = EpisodeTable(toy)
    for batch in batch_by_size(table, np.arange(len(toy))):
        result = roll_out(table, batch, expert_scorer(table), teacher_forced=teacher_forced)
        assert (result.elements == table.true_elements[batch.crystals]).all()
        assert (result.rank == 0).all()


def test_free_running_roll_out_equals_the_policy_in_the_environment(toy):
    policy = small_policy(toy)
    table = EpisodeTable(toy)
    env = gym.make("CrystalSkeleton-v0", collection=toy, split="all")
    for batch in batch_by_size(table, np.arange(len(toy))):
        result = roll_out(table, batch, PolicyScorer(policy, table))
        for k, s in np.ndindex(*batch.start_sites.shape):
            options = {
                "crystal": int(batch.crystals[s]),
                "start_site": int(batch.start_sites[k, s]),
            }
            observation, _ = env.reset(options=options)
            terminated = False
            while not terminated:
                observation, _, terminated, _, _ = env.step(policy.act(observation))
            assert (observation["element"] == result.elements[k, s]).all()


def test_confidence_is_the_highest_probability_of_the_policy(toy):
    policy = small_policy(toy)
    table = EpisodeTable(toy)
    env = gym.make("CrystalSkeleton-v0", collection=toy, split="all")
    for batch in batch_by_size(table, np.arange(len(toy)), 1):
        result = roll_out(table, batch, PolicyScorer(policy, table))
        for s, (crystal, start_site) in enumerate(
            zip(batch.crystals, batch.start_sites[0], strict=True)
        ):
            options = {"crystal": int(crystal), "start_site": int(start_site)}
            observation, _ = env.reset(options=options)
            expected = policy.probabilities(observation).max()
            assert result.confidence[0, s, start_site] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_equal_scores_choose_the_first_element_and_nan_is_never_correct(toy, value):
    table = EpisodeTable(toy)

    def score(state):
        return np.full((len(state.crystal), len(table.vocabulary)), value)

    for batch in batch_by_size(table, np.arange(len(toy))):
        result = roll_out(table, batch, score, teacher_forced=True)
        n = int(table.n_sites[batch.crystals[0]])
        correct = result.elements[..., :n] == table.true_elements[batch.crystals][:, :n]
        assert ((result.rank == 0) == (correct & (value == 0))).all()


@pytest.mark.parametrize("keep", [0.0, 0.4, 0.9, [1], [0, 2]])
def test_partial_roll_outs_equal_the_policy_in_the_environment(toy, keep):
    policy, table = small_policy(toy), EpisodeTable(toy)
    rows = np.flatnonzero(toy.n_sites > 3)
    env = gym.make("CrystalSkeleton-v0", collection=toy, split="all")
    for batch in batch_by_size(table, rows, start="partial", keep=keep):
        result = roll_out(table, batch, PolicyScorer(policy, table))
        n = int(table.n_sites[batch.crystals[0]])
        fraction = isinstance(keep, float)
        assert batch.n_kept == (min(int(keep * n + 0.5), n - 1) if fraction else len(keep))
        for k, s in np.ndindex(*batch.start_sites.shape):
            kept = batch.order[k, s, : batch.n_kept]
            options = {
                "crystal": int(batch.crystals[s]),
                "start_site": int(batch.start_sites[k, s]),
                "keep": kept.tolist(),
            }
            observation, _ = env.reset(options=options)
            terminated = False
            while not terminated:
                observation, _, terminated, _, _ = env.step(policy.act(observation))
            assert (observation["element"] == result.elements[k, s]).all()
            assert np.flatnonzero(~batch.filled[k, s]).tolist() == sorted(kept.tolist())
            assert (result.confidence[k, s] > 0).tolist() == batch.filled[k, s].tolist()


def test_keeping_no_sites_equals_an_empty_start(toy):
    policy, table = small_policy(toy), EpisodeTable(toy)
    for empty, partial in zip(
        batch_by_size(table, np.arange(len(toy))),
        batch_by_size(table, np.arange(len(toy)), start="partial", keep=0.0),
        strict=True,
    ):
        np.testing.assert_array_equal(empty.order, partial.order)
        expected, result = (
            roll_out(table, batch, PolicyScorer(policy, table)) for batch in (empty, partial)
        )
        for name in ("elements", "rank", "confidence"):
            np.testing.assert_array_equal(getattr(expected, name), getattr(result, name))
