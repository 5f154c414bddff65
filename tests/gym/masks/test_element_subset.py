"""Masks that are restricted to a subset of the vocabulary."""

import numpy as np
import pytest

from crystal_gym import Vocabulary
from crystal_gym.episode import EpisodeTable, fill, start
from crystal_gym.errors import CrystalGymError
from crystal_gym.masks import no_mask
from crystal_gym.masks.element_subset import ElementSubset


@pytest.fixture
def table(toy):
    return EpisodeTable(toy, max_sites=toy.max_sites + 1)


def subset_table(toy, symbols):
    return EpisodeTable.from_skeleton(toy.skeleton(3), Vocabulary(symbols))


def test_only_the_subset_is_allowed(toy, table):
    symbols = toy.vocabulary.symbols[1::2]
    mask = ElementSubset(no_mask, table, subset_table(toy, symbols))
    expected = [symbol in symbols for symbol in table.vocabulary.symbols]
    state = start(table, np.array([3, 3]), table.breadth_first(np.array([3, 3]), np.array([0, 1])))
    assert mask(table, state).tolist() == [expected, expected]
    assert mask(table, start(table, 3, table.breadth_first(3, 0))).tolist() == expected


def test_the_restricted_mask_sees_codes_of_the_subset(toy, table):
    symbols = toy.vocabulary.symbols[2:4]
    seen = []

    def record(restricted_table, state):
        seen.append((restricted_table.vocabulary.symbols, state.elements.copy()))
        return np.array([[True, False]])

    mask = ElementSubset(record, table, subset_table(toy, symbols))
    state = start(table, np.array([3]), table.breadth_first(np.array([3]), 0))
    first = int(state.focus[0])
    fill(state, np.array([3]))
    allowed = mask(table, state)
    assert allowed[0].nonzero()[0].tolist() == [2]
    vocabulary, elements = seen[0]
    assert vocabulary == symbols
    expected = table.blank[3].copy()
    expected[first] = 2
    assert elements[0].tolist() == expected.tolist()


def test_elements_outside_the_vocabulary_raise(toy, table):
    with pytest.raises(CrystalGymError, match="Pu is not in the vocabulary"):
        ElementSubset(no_mask, table, subset_table(toy, ("Pu",)))
