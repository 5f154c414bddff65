"""The mask of a design space: every filling that it allows is in the space."""

import numpy as np
import pytest

from crystal_agents.synthetic.design_space import DesignSpace
from crystal_agents.synthetic.design_space_mask import DesignSpaceMask
from crystal_gym.collections import load_collection
from crystal_gym.episode import EpisodeTable, fill, start
from crystal_gym.masks import resolve_mask


@pytest.fixture(scope="module")
def table():
    return EpisodeTable(load_collection("goldschmidt", progress=False))


def test_masked_fillings_are_the_design_space(table):
    train = table.collection.in_split("train")
    space = {tuple(row) for row in DesignSpace.of(table.true_elements[train]).fillings.tolist()}
    mask = resolve_mask(DesignSpaceMask(table, train))
    rng = np.random.default_rng(0)
    crystal = rng.permutation(len(table.n_sites))[:300]
    state = start(table, crystal, table.breadth_first(crystal, rng.integers(5, size=300)))
    for _ in range(5):
        allowed = mask(table, state)
        assert allowed.any(1).all()
        fill(state, np.where(allowed, rng.random(allowed.shape), -1).argmax(1))
    assert {tuple(row) for row in state.elements.tolist()} <= space


def test_training_crystals_are_allowed(table):
    train = table.collection.in_split("train")
    mask = DesignSpaceMask(table, train)
    state = start(table, train, table.breadth_first(train, np.zeros(len(train), np.int64)))
    for _ in range(5):
        true = table.true_elements[train, state.focus] - 1
        assert mask(table, state)[np.arange(len(train)), true].all()
        fill(state, true)


def test_a_contradiction_allows_all_elements(table):
    train = table.collection.in_split("train")
    mask = DesignSpaceMask(table, train)
    order = np.array([2, 3, 4, 0, 1])
    state = start(table, np.int64(0), order)
    cation = table.true_elements[0, 0] - 1
    fill(state, cation)
    assert mask(table, state).all()
