"""Behavior policies and their mixtures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_datasets import (
    BEHAVIOR_POLICIES,
    MixtureComponent,
    PolicyMixture,
    choose_start_sites,
    generate_episodes,
    mixed,
    sampled,
)
from crystal_datasets.behaviors import get_behavior_policy
from crystal_gym.episode import EpisodeTable, start
from crystal_gym.errors import CrystalGymError, UnknownNameError


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=5).filter(lambda weights: sum(weights) > 0.1),
    st.integers(0, 300),
    st.integers(0, 99),
)
def test_mixture_assigns_exact_proportions(weights, episodes, seed):
    mixture = PolicyMixture(
        tuple(
            MixtureComponent(str(i), weight, BEHAVIOR_POLICIES["expert"])
            for i, weight in enumerate(weights)
        )
    )
    components = mixture.assign(episodes, np.random.default_rng(seed))
    counts = np.bincount(components, minlength=len(weights))
    assert len(components) == counts.sum() == episodes
    assert (np.abs(counts - episodes * np.array(weights) / sum(weights)) < 1).all()


def test_temperature_flattens_and_sharpens_the_policy(toy):
    table = EpisodeTable(toy)
    crystal = np.zeros(4000, np.int64)
    state = start(table, crystal, table.breadth_first(crystal, 0))
    p = np.array([0.6, 0.3, 0.1, 0, 0])

    def frequencies(temperature):
        act = sampled(lambda obs: np.tile(p, (len(obs["focus"]), 1)), temperature)
        actions = act(table, state, np.random.default_rng(0))
        return np.bincount(actions, minlength=5) / len(actions)

    for temperature in (0.5, 1.0, 2.0):
        expected = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
        assert np.allclose(frequencies(temperature), expected, atol=0.03)
    assert frequencies(5.0)[3:].sum() == 0, "a probability of 0 stays 0"


def test_equal_seeds_give_equal_mixtures(toy, constant_policy):
    table = EpisodeTable(toy)
    behavior = mixed(constant_policy(1, 5), "always Na")
    start_sites = choose_start_sites(toy.n_sites, 3)
    runs = [next(generate_episodes(table, start_sites, behavior, seed)) for seed in (1, 1, 2)]
    assert np.array_equal(runs[0].actions, runs[1].actions)
    assert not np.array_equal(runs[0].actions, runs[2].actions)


def test_mixture_skips_crystals_without_start_sites(toy, constant_policy):
    start_sites = choose_start_sites(toy.n_sites, 3)
    start_sites[6:] = -1
    behavior = mixed(constant_policy(1, 5), "always Na")
    episodes = next(generate_episodes(EpisodeTable(toy), start_sites, behavior, 1))
    assert set(episodes.crystal.tolist()) == set(range(6))


def test_invalid_mixture_weights_and_temperatures_are_rejected(constant_policy):
    policy = constant_policy(1, 5)
    for weights in ((0, 0, 0), (1, -1, 1), (np.nan, 1, 1)):
        with pytest.raises(CrystalGymError, match="Expected mixture weights of 0 or more"):
            mixed(policy, "x", weights)
    with pytest.raises(CrystalGymError, match="Expected a temperature above 0, got 0"):
        mixed(policy, "x", temperature=0)


def test_unknown_behaviors_are_rejected():
    with pytest.raises(UnknownNameError, match=r"'experts'.*Did you mean 'expert'"):
        get_behavior_policy("experts")
    with pytest.raises(CrystalGymError, match=r"Expected a policy for .*'mixed'.*--policy"):
        get_behavior_policy("mixed")
    with pytest.raises(CrystalGymError, match=r"Record the episodes with .*EpisodeRecorder"):
        get_behavior_policy("replay")
