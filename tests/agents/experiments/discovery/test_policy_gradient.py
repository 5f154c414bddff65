"""PPO in the environment: the mask of remaining crystals, counted episodes, and budgets."""

from dataclasses import replace

import numpy as np
import pytest

from crystal_agents.experiments.discovery.grid_mask import RemainingCrystalsMask
from crystal_agents.experiments.discovery.methods import RULE
from crystal_agents.experiments.discovery.policy_gradient import (
    PolicyGradientSettings,
    one_skeleton,
    policy_gradient_search,
)
from crystal_agents.experiments.discovery.search_space import SearchSpace
from crystal_gym.episode import fill, start

SMALL = PolicyGradientSettings(hidden=8, num_envs=16, n_epochs=1)


@pytest.mark.parametrize("rule", ["none", RULE])
def test_episodes_under_the_mask_end_with_remaining_crystals(table, rule):
    space, rng = SearchSpace.of(table, rule), np.random.default_rng(0)
    allowed = np.flatnonzero(space.allowed)
    skeleton = np.zeros(64, int)
    order = table.breadth_first(skeleton, 0)
    mask = RemainingCrystalsMask(table, space, order[0])
    # In the second round one crystal remains, in the third none.
    rounds = [allowed, allowed[:1], allowed]
    removed = [allowed[:0], allowed[1:], allowed[:1]]
    for remaining, gone in zip(rounds, removed, strict=True):
        mask.remove(gone)
        state = start(table, skeleton, order)
        for _ in range(5):
            admitted = mask(table, state)
            assert admitted.any(1).all()
            fill(state, np.where(admitted, rng.random(admitted.shape), -1).argmax(1))
        same = (state.elements[:, None] == table.true_elements[remaining]).all(2)
        assert same.any(1).all()


def test_maskable_ppo_evaluates_crystals_of_the_grid_until_the_budget_ends(table, water_splitting):
    search = water_splitting.search(SearchSpace.of(table, RULE), 0, 30)
    policy_gradient_search(search, SMALL)
    assert search.oracle.finished
    assert search.space.allowed[search.oracle.order].all()
    assert search.counts["outside_grid"] == 0
    assert search.counts["episodes"] >= search.oracle.n_evaluations
    assert search.counts["steps"] == 5 * search.counts["episodes"]


def test_ppo_counts_episodes_outside_the_grid_and_ends_after_its_steps(table, water_splitting):
    search = water_splitting.search(SearchSpace.of(table), 0)
    policy_gradient_search(search, replace(SMALL, only_new=False, max_steps=160))
    assert search.counts["steps"] == 160
    assert search.counts["outside_grid"] + search.oracle.n_evaluations <= 32
    assert search.counts["outside_grid"] > 16


def test_all_episodes_have_the_skeleton_with_the_median_lattice(grid):
    generator = one_skeleton(grid)
    lattice = grid.parameters[:, 0]
    (row,) = generator.rows
    assert (lattice < lattice[row]).sum() <= len(lattice) // 2 <= (lattice <= lattice[row]).sum()
