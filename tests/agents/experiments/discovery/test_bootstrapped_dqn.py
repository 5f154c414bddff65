"""Bootstrapped Q-learning: the decisions, the ensemble, and the start from a Minari dataset."""

import minari
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_agents.experiments.discovery.bootstrapped_dqn import DecisionTree
from crystal_agents.experiments.discovery.ensemble import Ensemble, EnsembleSettings
from crystal_agents.experiments.discovery.offline_dqn import read_evaluations, write_evaluations
from crystal_agents.experiments.discovery.search_space import SearchSpace


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_sequential_greedy_decisions_reach_the_best_available_crystal(seed):
    rng = np.random.default_rng(seed)
    values, available = rng.random((2, 3, 4, 2)), rng.random((3, 4, 2)) < 0.5
    tree = DecisionTree(values, available)
    for episode in range(int(available.sum())):
        member = episode % 2
        choices = tree.act(member)
        assert available[choices]
        assert values[member][choices] == values[member][available].max()
        tree.remove(*choices)
        available[choices] = False


def test_ensemble_fits_its_data_and_disagrees_elsewhere():
    x = np.linspace(-1, 1, 41)[:, None]
    y = np.column_stack([5 + x[:, 0], 100 * np.sin(3 * x[:, 0])])
    settings = EnsembleSettings(members=3, width=16, learning_rate=0.02, first_steps=150)
    state = torch.get_rng_state()
    ensemble = Ensemble(x, 2, settings, np.random.default_rng(0))
    near = np.arange(20)
    ensemble.fit(near, y[near])
    predicted = ensemble.predict(np.arange(41))
    assert predicted.shape == (3, 41, 2)
    assert np.abs(predicted.mean(0) - y)[near].max(0) == pytest.approx([0, 0], abs=20)
    assert np.abs(predicted.mean(0)[near, 0] - y[near, 0]).max() < 0.2
    assert predicted[:, -1, 0].std() > 2 * predicted[:, near, 0].std(0).mean()
    # The global random numbers of torch are left alone.
    assert torch.equal(state, torch.get_rng_state())
    again = Ensemble(x, 2, settings, np.random.default_rng(0))
    again.fit(near, y[near])
    assert (again.predict(near) == predicted[:, near]).all()


def test_evaluations_are_read_back_from_a_minari_dataset(
    table, water_splitting, tmp_path, monkeypatch
):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("CRYSTAL_GYM_CACHE", str(tmp_path / "cache"))
    search = water_splitting.search(SearchSpace.of(table), 0, 10)
    dataset = write_evaluations(search, 20)  # the budget allows 10
    assert search.oracle.n_evaluations == 10
    assert minari.load_dataset(dataset).total_episodes == 10
    crystals, returns = read_evaluations(search, dataset)
    assert crystals.tolist() == search.oracle.order.tolist()
    np.testing.assert_allclose(returns, water_splitting.scores[crystals], rtol=1e-6)
