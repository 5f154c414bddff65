"""Features of states: exact inputs of the network, and shared encodings of a skeleton."""

import numpy as np
import torch
from online_models import SHORT, envs_for, policy_for

from crystal_agents import warm_start
from crystal_agents.online import features_extractor
from crystal_agents.online.algorithms import get_features_extractor


def test_observations_reach_the_network_unchanged(toy, monkeypatch):
    """Coordinates are unchanged; edges, elements and focus are the original integers."""
    model = warm_start(policy_for(toy), "ppo", envs_for(toy), critic_warm_up=0, **SHORT)
    model.learn(1)
    data = next(model.rollout_buffer.get(16)).observations
    inputs = {}
    store = features_extractor.SkeletonStore
    monkeypatch.setattr(
        features_extractor,
        "SkeletonStore",
        lambda arrays, _: inputs.update(arrays) or store(arrays),
    )
    model.policy.predict_values(data)
    assert torch.equal(inputs["frac_coords"], data["frac_coords"])
    table = model.get_env().env.table
    for row in range(16):
        matches = [
            crystal
            for crystal in range(len(toy))
            if np.array_equal(table.edges[crystal], inputs["edges"][row].numpy())
            and np.array_equal(table.frac_coords[crystal], inputs["frac_coords"][row].numpy())
        ]
        assert len(matches) == 1


def test_states_of_one_skeleton_share_its_encoding(toy, monkeypatch):
    model = warm_start(policy_for(toy), "ppo", envs_for(toy, 16), critic_warm_up=0, **SHORT)
    model.learn(1)
    data = next(model.rollout_buffer.get(96)).observations
    extractor = get_features_extractor(model.policy)

    def compute():
        with torch.no_grad():
            return model.policy.extract_features(data)

    grids = []
    make_grid = features_extractor._grid
    monkeypatch.setattr(
        features_extractor, "_grid", lambda keys: grids.append(make_grid(keys)) or grids[-1]
    )
    shared = compute()
    assert 1 < len(grids[0].states) < 96
    assert grids[0].states.shape[1] < 96 / 2
    index = torch.arange(96)
    monkeypatch.setattr(
        features_extractor, "_grid", lambda _: features_extractor._Grid(index[None], index)
    )
    torch.testing.assert_close(shared, compute(), rtol=1e-4, atol=1e-5)
    assert shared.shape[1] == extractor.features_dim
