"""Behaviours and the episodes that they make."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_datasets import BEHAVIOR_POLICIES, choose_start_sites, generate_episodes
from crystal_datasets import episodes as trajectories
from crystal_datasets.behaviors import get_behavior_policy
from crystal_datasets.episodes import roll_out
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError


def gathered(table, behavior, seed=0, limit=5):
    """All episodes of a table, one by one: (crystal, source, element, focus, actions, rewards)."""
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


def test_the_expert_puts_back_every_element_along_the_traversal(toy):
    table = EpisodeTable(toy)
    for crystal, start_site, element, focus, actions, rewards in gathered(
        table, BEHAVIOR_POLICIES["expert"]
    ):
        n = toy.n_sites[crystal]
        order = toy.traversals[crystal, start_site, :n]
        assert focus[:n].tolist() == order.tolist()
        assert (actions + 1).tolist() == table.true_elements[crystal, order].tolist()
        assert (element[0] == table.blank[crystal]).all()
        assert (element[n] == table.true_elements[crystal]).all()
        assert rewards.tolist() == [1 / n] * n


def test_each_crystal_starts_from_all_its_sites_or_from_five_of_more(toy):
    seen = {}
    for crystal, start_site, *_ in gathered(EpisodeTable(toy), BEHAVIOR_POLICIES["expert"]):
        seen.setdefault(crystal, []).append(start_site)
    for crystal, n in enumerate(toy.n_sites):
        assert len(seen[crystal]) == len(set(seen[crystal])) == min(n, 5)
        assert set(seen[crystal]) <= set(range(n))


def test_the_batch_size_does_not_change_the_expert(toy, monkeypatch):
    table = EpisodeTable(toy)
    whole = gathered(table, BEHAVIOR_POLICIES["expert"])
    monkeypatch.setattr(trajectories, "BATCH", 3)
    for one, other in zip(whole, gathered(table, BEHAVIOR_POLICIES["expert"]), strict=True):
        for value, again in zip(one, other, strict=True):
            assert np.array_equal(value, again)


@pytest.mark.real
def test_random_episodes_follow_their_seed_and_score_one_in_v(perov5):
    table = EpisodeTable(perov5)
    once, again, other = (gathered(table, BEHAVIOR_POLICIES["random"], seed) for seed in (1, 1, 2))
    actions = [np.concatenate([episode[4] for episode in run]) for run in (once, again, other)]
    assert np.array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])
    v = table.n_elements
    assert np.bincount(actions[0], minlength=v).min() > 0
    returns = np.array([episode[5].sum() for episode in once])
    spread = np.sqrt(1 / v / perov5.max_sites / len(returns))
    assert abs(returns.mean() - 1 / v) < 5 * spread


def test_any_function_is_a_behaviour(toy):
    table = EpisodeTable(toy)

    def mostly_expert(table, state, rng):
        wild = rng.random(len(state.crystal)) < 0.3
        actions = BEHAVIOR_POLICIES["expert"](table, state, rng)
        return np.where(wild, BEHAVIOR_POLICIES["random"](table, state, rng), actions)

    episodes = roll_out(
        table, np.array([3, 9, 5]), np.array([0, 2, 5]), mostly_expert, np.random.default_rng(0)
    )
    assert len(episodes) == 3
    right = episodes.observations["element"][:, -1] == table.true_elements[episodes.crystal]
    share = (right & (table.true_elements[episodes.crystal] > 0)).sum(axis=1) / episodes.n_steps
    assert np.allclose(episodes.rewards.sum(axis=1), share)
    assert 0 < share.mean() < 1


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=8),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
)
def test_chosen_sources_are_distinct_sites_and_grow_with_the_limit(n_sites, limit, seed):
    chosen = choose_start_sites(np.array(n_sites), limit, seed)
    more = choose_start_sites(np.array(n_sites), limit + 1, seed)
    assert chosen.shape == (len(n_sites), limit)
    for n, row, longer in zip(n_sites, chosen, more, strict=True):
        sites = row[row >= 0].tolist()
        assert sites == sorted(set(sites))
        assert len(sites) == min(n, limit)
        assert set(sites) <= set(range(n)) & set(longer.tolist())


def test_a_sample_of_sources_is_spread_over_all_sites():
    chosen = choose_start_sites(np.full(400, 20), 5, seed=3)
    assert np.bincount(chosen.ravel(), minlength=20).min() > 50


def test_unknown_behaviours_no_sources_and_negative_seeds_are_refused():
    with pytest.raises(UnknownNameError, match=r"'experts'.*Did you mean 'expert'"):
        get_behavior_policy("experts")
    with pytest.raises(CrystalGymError, match="At least one source"):
        choose_start_sites(np.array([5]), 0)
    with pytest.raises(CrystalGymError, match="A seed is 0 or more"):
        choose_start_sites(np.array([5]), 5, seed=-1)
