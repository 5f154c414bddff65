"""Episodes that behavior policies generate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_datasets import BEHAVIOR_POLICIES, choose_start_sites, generate_episodes
from crystal_datasets import episodes as episodes_module
from crystal_datasets.episodes import roll_out
from crystal_gym.episode import EpisodeTable, finished
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards import MatchReward, ValidityReward


def all_episodes(table, behavior, seed=0, limit=5):
    """List episodes as (crystal, start site, elements, focus, actions, rewards)."""
    start_sites = choose_start_sites(table.n_sites, limit)
    return [
        (
            batch.crystal[b],
            batch.start_site[b],
            batch.observations["element"][b, : n + 1],
            batch.observations["focus"][b, : n + 1],
            batch.actions[b, :n],
            batch.rewards[b, :n],
        )
        for batch in generate_episodes(table, start_sites, behavior, seed)
        for b, n in enumerate(batch.n_steps)
    ]


def test_expert_assigns_true_elements_along_the_traversal(toy):
    table = EpisodeTable(toy)
    for crystal, start_site, elements, focus, actions, rewards in all_episodes(
        table, BEHAVIOR_POLICIES["expert"]
    ):
        n = toy.n_sites[crystal]
        order = toy.skeleton(int(crystal)).traversal(start_site)
        assert focus[:n].tolist() == order.tolist()
        assert (actions + 1).tolist() == table.true_elements[crystal, order].tolist()
        assert (elements[0] == table.blank[crystal]).all()
        assert (elements[n] == table.true_elements[crystal]).all()
        assert rewards.tolist() == [1 / n] * n


def test_crystals_start_from_all_sites_or_from_five(toy):
    start_sites = {}
    for crystal, start_site, *_ in all_episodes(EpisodeTable(toy), BEHAVIOR_POLICIES["expert"]):
        start_sites.setdefault(crystal, []).append(start_site)
    for crystal, n in enumerate(toy.n_sites):
        sites = start_sites[crystal]
        assert len(sites) == len(set(sites)) == min(n, 5)
        assert set(sites) <= set(range(n))


def test_batch_size_does_not_change_the_expert(toy, monkeypatch):
    table = EpisodeTable(toy)
    expected = all_episodes(table, BEHAVIOR_POLICIES["expert"])
    monkeypatch.setattr(episodes_module, "BATCH", 3)
    in_small_batches = all_episodes(table, BEHAVIOR_POLICIES["expert"])
    for expected_episode, episode in zip(expected, in_small_batches, strict=True):
        for expected_value, value in zip(expected_episode, episode, strict=True):
            assert np.array_equal(expected_value, value)


@pytest.mark.real
def test_random_episodes_follow_their_seed_and_have_the_mean_return_1_over_v(perov5):
    table = EpisodeTable(perov5)
    runs = [all_episodes(table, BEHAVIOR_POLICIES["random"], seed) for seed in (1, 1, 2)]
    actions = [np.concatenate([episode[4] for episode in run]) for run in runs]
    assert np.array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])
    v = table.n_elements
    assert np.bincount(actions[0], minlength=v).min() > 0
    returns = np.array([episode[5].sum() for episode in runs[0]])
    spread = np.sqrt(1 / v / perov5.max_sites / len(returns))
    assert abs(returns.mean() - 1 / v) < 5 * spread


def test_any_function_is_a_behavior_policy(toy):
    table = EpisodeTable(toy)

    def mostly_expert(table, state, rng):
        is_random = rng.random(len(state.crystal)) < 0.3
        actions = BEHAVIOR_POLICIES["expert"](table, state, rng)
        return np.where(is_random, BEHAVIOR_POLICIES["random"](table, state, rng), actions)

    episodes = roll_out(
        table, np.array([3, 9, 5]), np.array([0, 2, 5]), mostly_expert, np.random.default_rng(0)
    )
    assert len(episodes) == 3
    true_elements = table.true_elements[episodes.crystal]
    correct = episodes.observations["element"][:, -1] == true_elements
    fraction = (correct & (true_elements > 0)).sum(axis=1) / episodes.n_steps
    assert np.allclose(episodes.rewards.sum(axis=1), fraction)
    assert 0 < fraction.mean() < 1


def test_rewards_equal_those_of_the_reward_object(toy):
    table = EpisodeTable(toy)
    start_sites = choose_start_sites(toy.n_sites)
    for reward in (MatchReward(), ValidityReward()):
        (episodes,) = generate_episodes(table, start_sites, BEHAVIOR_POLICIES["random"], 3, reward)
        final = episodes.observations["element"][:, -1]
        final_reward, _ = reward.on_finish(table, finished(table, episodes.crystal, final))
        n = episodes.n_steps
        if isinstance(reward, ValidityReward):
            assert np.array_equal(episodes.returns, final_reward)
            assert np.array_equal(episodes.rewards[np.arange(len(n)), n - 1], final_reward)
        else:
            correct = (final == table.true_elements[episodes.crystal]) & (final > 0)
            assert np.allclose(episodes.returns, correct.sum(1) / n)


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=8),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
)
def test_start_sites_are_distinct_and_nested(n_sites, limit, seed):
    chosen = choose_start_sites(np.array(n_sites), limit, seed)
    larger = choose_start_sites(np.array(n_sites), limit + 1, seed)
    assert chosen.shape == (len(n_sites), limit)
    for n, row, longer_row in zip(n_sites, chosen, larger, strict=True):
        sites = row[row >= 0].tolist()
        assert sites == sorted(set(sites))
        assert len(sites) == min(n, limit)
        assert set(sites) <= set(range(n)) & set(longer_row.tolist())


def test_sampled_start_sites_cover_all_sites():
    chosen = choose_start_sites(np.full(400, 20), 5, seed=3)
    assert np.bincount(chosen.ravel(), minlength=20).min() > 50


def test_invalid_limits_and_seeds_are_rejected():
    with pytest.raises(CrystalGymError, match="Expected at least one start site"):
        choose_start_sites(np.array([5]), 0)
    with pytest.raises(CrystalGymError, match="Expected a seed of 0 or more, got -1"):
        choose_start_sites(np.array([5]), 5, seed=-1)
