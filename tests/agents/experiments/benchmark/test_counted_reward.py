"""Oracle calls: distinct labeled crystals, or distinct fillings of skeletons."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_agents.experiments.benchmark.counted_reward import CountedReward
from crystal_gym.collections import load_collection
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeTable, finished
from crystal_gym.rewards import resolve_reward

N = 30
pairs = st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=20)


@pytest.fixture(scope="module")
def table():
    """Return thirty perovskites with labels, every fifth of them without."""
    collection = load_collection("goldschmidt", progress=False)
    heat = np.where(np.arange(len(collection)) % 5, 1.0, np.nan)[:N]
    collection = collection.take(np.arange(0, len(collection), 7)[:N])
    collection = dataclasses.replace(collection, labels={"heat_all": heat})
    return EpisodeTable(collection, Vocabulary(collection.vocabulary.symbols), 5)


def finish(reward, table, visits):
    for skeleton, crystal in visits:
        skeletons = np.array([skeleton])
        reward.on_finish(table, finished(table, skeletons, table.true_elements[[crystal]]))


@given(visits=pairs)
def test_labels_are_counted_once_for_each_labeled_crystal(table, visits):
    reward = CountedReward(resolve_reward("perov5-dft"))
    finish(reward, table, visits)
    assert reward.oracle_calls == len({crystal for _, crystal in visits if crystal % 5})


@given(visits=pairs)
def test_other_rewards_are_counted_for_each_filling_of_a_skeleton(table, visits):
    reward = CountedReward(resolve_reward("match"))
    finish(reward, table, visits)
    assert reward.oracle_calls == len(set(visits))


def test_the_reward_itself_does_not_change(table):
    plain, counted = resolve_reward("perov5-dft"), CountedReward(resolve_reward("perov5-dft"))
    assert (counted.components, counted.labels) == (plain.components, plain.labels)
    rows = np.arange(N)
    state = finished(table, rows, table.true_elements[rows[::-1]])
    np.testing.assert_equal(counted.on_finish(table, state), plain.on_finish(table, state))
