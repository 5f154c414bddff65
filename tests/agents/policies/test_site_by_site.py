"""Decisions for each site alone."""

import dataclasses

import numpy as np

from crystal_agents import load_policy
from crystal_agents.policies.policy import PolicyScorer
from crystal_agents.policies.site_by_site import SiteBySiteScorer
from crystal_gym import load_collection
from crystal_gym.episode import EpisodeTable, fill, start


def after_two_choices(table, kept):
    """Return the state after two choices of the first element."""
    order = np.tile(np.array([2, 0, 1, 3, 4]), (6, 1))
    state = start(table, np.arange(6), order, np.full(6, kept))
    for _ in range(2):
        fill(state, np.zeros(6, np.int64))
    return state


def test_earlier_choices_do_not_change_the_scores_but_kept_elements_do():
    policy = load_policy("goldschmidt/egnn")
    collection = load_collection("goldschmidt")
    rows = np.nonzero(collection.n_sites == 5)[0][:6]
    table = EpisodeTable(collection.take(rows), policy.vocabulary)
    alone, greedy = SiteBySiteScorer(policy, table), PolicyScorer(policy, table)
    later = after_two_choices(table, kept=0)
    # The same focus in an empty skeleton.
    empty = dataclasses.replace(later, elements=np.zeros_like(later.elements))
    np.testing.assert_array_equal(alone(later), greedy(empty))
    assert not np.allclose(alone(later), greedy(later))
    kept = after_two_choices(table, kept=1)
    only_kept = kept.elements.copy()
    only_kept[:, [0, 1, 3, 4]] = 0
    np.testing.assert_array_equal(
        alone(kept), greedy(dataclasses.replace(kept, elements=only_kept))
    )
    assert (only_kept[:, 2] > 0).all()
