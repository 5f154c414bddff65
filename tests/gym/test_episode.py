"""The moves of an episode, on one and on many."""

import numpy as np

from crystal_gym.episode import EpisodeTable, fill, observe, start


def test_a_batch_fills_every_crystal_with_the_given_elements(toy):
    table = EpisodeTable(toy)
    crystal = np.arange(len(toy))
    state = start(table, crystal, table.traversals[crystal, 0])
    for _ in range(toy.max_sites):
        true = table.true_elements[crystal, state.focus]
        full = fill(state, true - 1)
    assert full.all()
    assert (state.elements == table.true_elements).all()


def test_one_episode_goes_through_the_same_states_as_its_row_in_a_batch(toy):
    table = EpisodeTable(toy)
    crystal = np.array([5, 11, 3])
    batch = start(table, crystal, table.traversals[crystal, 0])
    singles = [start(table, c, table.traversals[c, 0]) for c in crystal]
    for action in range(toy.n_sites[crystal].max()):
        seen = observe(table, batch)
        for row, single in enumerate(singles):
            for key, value in observe(table, single).items():
                assert np.array_equal(value, seen[key][row])
        full = fill(batch, np.full(3, action % 5))
        for row, single in enumerate(singles):
            if single.step < single.n_sites:
                assert fill(single, action % 5) == full[row]
