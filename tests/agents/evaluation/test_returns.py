"""Greedy returns against the environment, and means that count what they leave out."""

import gymnasium as gym
import numpy as np
import pytest
from small_policies import expert_scorer, small_policy

import crystal_gym  # noqa: F401 - registers the environment
from crystal_agents.evaluation.returns import (
    MetricMeans,
    episode_returns,
    evenly_spaced,
    greedy_returns,
    nan_means,
)
from crystal_agents.policies.policy import PolicyScorer
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards import Reward, resolve_reward


class PartlyLabeled(Reward):
    """Pays the site number at each step; the label of odd rows is missing."""

    components = ("label", "failures")

    def __init__(self):
        self.prepared = 0

    def prepare(self, table):
        self.prepared += 1

    def on_fill(self, table, state, element):
        return np.asarray(state.focus, float)

    def on_finish(self, table, state):
        label = np.where(state.crystal % 2 == 0, 3.0, np.nan)
        return label, {"label": label, "failures": np.full(len(state.crystal), 7.0)}


@pytest.mark.parametrize("reward", ["match", "validity"])
def test_greedy_returns_equal_those_of_the_environment(toy, reward):
    policy = small_policy(toy)
    table, rows = EpisodeTable(toy), toy.in_split("val")
    env = gym.make("CrystalSkeleton-v0", collection=toy, reward=reward)
    episodes = greedy_returns(
        PolicyScorer(policy, table), table, rows, resolve_reward(reward), n_start_sites=6
    )
    expected = {}
    for row in rows.tolist():
        for start_site in range(int(toy.n_sites[row])):
            observation, _ = env.reset(options={"crystal": row, "start_site": start_site})
            total, terminated = 0.0, False
            while not terminated:
                observation, step, terminated, _, _ = env.step(policy.act(observation))
                total += float(step)
            expected.setdefault(row, []).append(total)
    for row, returns in expected.items():
        found = episodes.metrics["return"][episodes.crystal == row]
        assert found.tolist() == pytest.approx(returns)
    assert len(episodes.crystal) == len(episodes.elements) == toy.n_sites[rows].sum()


def test_greedy_returns_respect_the_mask(toy):
    table, rows = EpisodeTable(toy), np.arange(len(toy))

    def only_first(table, state):
        return np.eye(table.n_elements, dtype=bool)[np.zeros(len(state.crystal), int)]

    reward = resolve_reward("match")
    free = greedy_returns(expert_scorer(table), table, rows, reward)
    masked = greedy_returns(expert_scorer(table), table, rows, reward, mask=only_first)
    assert free.metrics["return"] == pytest.approx(1)
    assert (free.metrics["match"] == 1).all()
    assert (masked.elements <= 1).all()
    assert masked.metrics["return"].mean() < 1


def test_greedy_returns_prepare_the_reward_and_keep_missing_values(toy):
    table, rows, reward = EpisodeTable(toy), np.arange(len(toy)), PartlyLabeled()
    episodes = greedy_returns(expert_scorer(table), table, rows, reward)
    assert reward.prepared == 1
    np.testing.assert_array_equal(np.isnan(episodes.metrics["return"]), episodes.crystal % 2 == 1)
    means, n_missing = nan_means(episodes.metrics)
    assert set(means) == {"return", "label", "match"}
    assert n_missing == {"return": 6, "label": 6}
    sites = toy.n_sites[::2]
    assert means["return"] == pytest.approx(3 + (sites * (sites - 1) / 2).mean())


def test_greedy_returns_of_one_start_site_and_seed_are_reproducible(toy):
    table, rows = EpisodeTable(toy), np.arange(len(toy))
    score, reward = PolicyScorer(small_policy(toy), table), resolve_reward("match")
    first, second = (greedy_returns(score, table, rows, reward, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.elements, second.elements)
    assert sorted(first.crystal) == rows.tolist()
    for numbers in ({"n_start_sites": 0}, {"seed": -1}):
        with pytest.raises(CrystalGymError):
            greedy_returns(score, table, rows, reward, **numbers)


def test_episode_returns_add_the_rewards_of_all_sites(toy):
    table, rows = EpisodeTable(toy), np.array([0, 2, 4])
    returns = episode_returns(table, rows, table.true_elements[rows], PartlyLabeled())
    assert returns["return"].tolist() == [3.0, 3 + 0 + 1 + 2, 3 + 0 + 1 + 2 + 3 + 4]
    assert returns["match"].tolist() == [1, 1, 1]


def test_nan_means_leave_out_and_count_missing_values():
    metrics = {
        "return": np.array([1.0, 2.0, 6.0]),
        "label": np.array([np.nan, 2.0, 4.0]),
        "gap": np.full(3, np.nan),
        "validity/failures": np.array([1.0, 2.0, 3.0]),
        "failures": np.array([1.0, 1.0, 1.0]),
    }
    means, n_missing = nan_means(metrics)
    assert means == pytest.approx({"return": 3.0, "label": 3.0, "gap": np.nan}, nan_ok=True)
    assert n_missing == {"label": 1, "gap": 3}


def test_nan_means_of_no_episodes_are_nan():
    means, n_missing = nan_means({"return": np.array([])})
    assert np.isnan(means["return"])
    assert n_missing == {}


def test_a_row_of_means_includes_the_counts():
    row = MetricMeans({"return": 1.0, "label": 2.0}, {"label": 4}).as_row()
    assert row == {"return": 1.0, "label": 2.0, "label/n_missing": 4}


def test_evenly_spaced_rows_include_both_ends():
    rows = np.arange(10, 30)
    assert evenly_spaced(rows, 5).tolist() == [10, 14, 19, 24, 29]
    assert evenly_spaced(rows, 100).tolist() == rows.tolist()


def test_evaluation_leaves_out_and_preserves_the_memory_of_a_reward(toy):
    table, rows = EpisodeTable(toy), np.arange(12)
    reward = resolve_reward({"match": 1.0, "novelty": 1.0})
    episodes = greedy_returns(expert_scorer(table), table, rows, reward)
    assert np.allclose(episodes.metrics["return"], 1)
    assert "novelty/count" not in episodes.metrics
    assert [len(counts) for counts in reward.memories().values()] == [0]
    filtered = resolve_reward({"diversity-filter": {"reward": "validity", "limit": 1}})
    same = np.tile(table.true_elements[2], (5, 1))
    values = episode_returns(table, np.full(5, 2), same, filtered)["return"]
    assert len(set(values)) == 1
