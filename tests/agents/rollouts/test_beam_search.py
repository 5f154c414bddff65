"""Beam search against the enumeration of all fillings, and samples without replacement."""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy.special import log_softmax

from crystal_agents.rollouts.beam_search import beam_search
from crystal_gym.episode import EpisodeTable, fill, start
from crystal_gym.errors import CrystalGymError
from crystal_gym.masks.composition import composition

ROWS = np.array([3, 9])  # crystals with four sites


@pytest.fixture(scope="module")
def table(toy):
    return EpisodeTable(toy, max_sites=7)


def score(state):
    """Return logits that depend on the crystal, the focus and all elements assigned so far."""
    seed = state.crystal * 7 + state.focus * 3 + (np.maximum(state.elements, 0) * 5).sum(1)
    actions = np.arange(5)
    return (2 * np.sin(seed[:, None] * 1.3 + actions * (seed[:, None] % 4 + 1))).astype(np.float32)


def enumerate_fillings(table, row, order, n_kept=0, mask=None):
    """Return the log-probability of every filling of a crystal, by its elements."""
    n = int(table.n_sites[row]) - n_kept
    found = {}
    for actions in itertools.product(range(5), repeat=n):
        state = start(table, np.array([row]), order[None], np.array([n_kept]))
        total = 0.0
        for action in actions:
            logits = score(state).astype(np.float64)
            if mask is not None:
                logits = np.where(mask(table, state), logits, -np.inf)
            total += log_softmax(logits, axis=1)[0, action]
            fill(state, np.array([action]))
        if total > -np.inf:
            found[tuple(state.elements[0].tolist())] = total
    return found


@pytest.mark.parametrize(("n_kept", "mask"), [(0, None), (2, None), (0, composition)])
def test_a_wide_beam_finds_all_fillings_in_order(table, n_kept, mask):
    order = table.breadth_first(ROWS, 1)
    settings = {} if mask is None else {"mask": mask}
    state = start(table, ROWS, order, np.full(2, n_kept))
    result = beam_search(table, state, score, width=5**4, **settings)
    for index, row in enumerate(ROWS):
        expected = enumerate_fillings(table, row, order[index], n_kept, mask)
        exists = result.totals[index] > -np.inf
        found = list(map(tuple, result.elements[index][exists].tolist()))
        assert len(found) == len(expected)
        totals = result.totals[index][exists]
        assert np.allclose(totals, [expected[filling] for filling in found])
        assert (np.diff(totals) <= 1e-12).all()
        padding = table.blank[row] < 0
        assert (result.log_probabilities[index][:, padding] == 0).all()
        if mask is None:
            assert np.isclose(np.exp(totals).sum(), 1)


def test_a_beam_of_one_is_the_greedy_filling(table):
    order = table.breadth_first(ROWS, 0)
    state = start(table, ROWS, order)
    for _ in range(4):
        fill(state, score(state).argmax(1))
    result = beam_search(table, start(table, ROWS, order), score, width=1)
    assert np.array_equal(result.elements[:, 0], state.elements)


def test_a_beam_of_each_crystal_does_not_depend_on_the_others(table):
    order = table.breadth_first(ROWS, 2)
    both = beam_search(table, start(table, ROWS, order), score, width=6)
    for index in range(2):
        one = slice(index, index + 1)
        alone = beam_search(table, start(table, ROWS[one], order[one]), score, width=6)
        assert np.array_equal(alone.elements[0], both.elements[index])
        assert np.allclose(alone.totals[0], both.totals[index])
    assert (np.diff(both.totals, axis=1) <= 0).all()


def test_samples_without_replacement_are_distinct_and_start_with_a_sample(table):
    order = table.breadth_first(ROWS[:1], 0)
    probability = {k: np.exp(v) for k, v in enumerate_fillings(table, 3, order[0]).items()}
    rng = np.random.default_rng(0)
    first, second = Counter(), Counter()
    n_samples = 4000
    for _ in range(n_samples):
        result = beam_search(table, start(table, ROWS[:1], order), score, width=2, rng=rng)
        pair = [tuple(filling) for filling in result.elements[0].tolist()]
        assert len(set(pair)) == 2
        first[pair[0]] += 1
        second[pair[1]] += 1
    likely = sorted(probability, key=probability.get)[-6:]
    for filling in likely:
        p = probability[filling]
        assert abs(first[filling] / n_samples - p) < 4 * np.sqrt(p * (1 - p) / n_samples)
        # The second of two draws without replacement.
        q = sum(other * p / (1 - other) for k, other in probability.items() if k != filling)
        assert abs(second[filling] / n_samples - q) < 4 * np.sqrt(q * (1 - q) / n_samples)


def test_a_sample_of_all_fillings_contains_each_once(table):
    order = table.breadth_first(ROWS, 0)
    result = beam_search(
        table, start(table, ROWS, order), score, width=5**4, rng=np.random.default_rng(1)
    )
    for index in range(2):
        assert len({tuple(filling) for filling in result.elements[index].tolist()}) == 5**4


def test_invalid_arguments_are_rejected(table):
    with pytest.raises(CrystalGymError, match="beam width of at least 1, got 0"):
        beam_search(table, start(table, ROWS, table.breadth_first(ROWS, 0)), score, width=0)
    mixed = np.array([3, 4])
    with pytest.raises(CrystalGymError, match=r"same number of sites to fill, got \[4, 5\]"):
        beam_search(table, start(table, mixed, table.breadth_first(mixed, 0)), score, width=2)
