"""Features of states: exact inputs of the network, and shared encodings of a skeleton."""

import numpy as np
import pytest
import torch
from online_models import SETTINGS, SHORT, envs_for, policy_for, random_states

from crystal_agents import warm_start
from crystal_agents.online import features_extractor
from crystal_agents.online.critic_warm_up import get_features_extractor


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


def count_encodings(monkeypatch, extractor):
    """Return a list that receives the number of skeletons of each call of ``geometry``."""
    counts = []
    encoder = extractor.network.encoder
    geometry = encoder.geometry
    monkeypatch.setattr(
        encoder, "geometry", lambda batch: counts.append(len(batch)) or geometry(batch)
    )
    return counts


@pytest.mark.parametrize("network", ["egnn", "dimenet"])
def test_features_of_a_roll_out_equal_those_with_gradients(toy, network):
    """Cells of 1 to 6 sites, so that episodes end at different steps."""
    policy = policy_for(toy, network, SETTINGS if network == "egnn" else {})
    model = warm_start(policy, "ppo", envs_for(toy), frozen_geometry=False, **SHORT)
    for observations in random_states(model.get_env(), 80):
        states, _ = model.policy.obs_to_tensor(observations)
        with torch.no_grad():
            rollout = model.policy.extract_features(states)
        update = model.policy.extract_features(states)
        assert update.requires_grad
        torch.testing.assert_close(rollout, update.detach(), rtol=1e-4, atol=1e-5)


def test_roll_outs_encode_each_skeleton_once_per_episode(toy, monkeypatch):
    model = warm_start(
        policy_for(toy), "ppo", envs_for(toy), critic_warm_up=0, frozen_geometry=False, **SHORT
    )
    counts = count_encodings(monkeypatch, get_features_extractor(model.policy))
    monkeypatch.setattr(model, "train", lambda: None)
    model.learn(1)
    # The states after the last step, whose values are computed, can start further episodes.
    episodes = int(model.rollout_buffer.episode_starts.sum()) + model.n_envs
    assert 0 < sum(counts) <= episodes < model.rollout_buffer.episode_starts.size


def test_a_frozen_geometry_does_not_change_and_is_computed_once(toy, monkeypatch):
    policy = policy_for(toy)
    model = warm_start(
        policy, "ppo", envs_for(toy), critic_warm_up=0, frozen_geometry=True, **SHORT
    )
    extractor = get_features_extractor(model.policy)
    counts = count_encodings(monkeypatch, extractor)
    frozen = {id(weight) for weight in extractor.network.encoder.geometry_parameters()}
    model.learn(192)
    initial = dict(policy.named_parameters())
    for name, weight in extractor.network.named_parameters():
        assert torch.equal(weight, initial[name]) == (id(weight) in frozen), name
    assert frozen
    assert 0 < sum(counts) <= len(toy)


def test_roll_outs_and_updates_do_not_change_with_the_cache(toy, monkeypatch):
    """Actions are equal; log-probabilities and weights after an update differ by rounding."""

    def learn():
        model = warm_start(
            policy_for(toy),
            "ppo",
            envs_for(toy),
            critic_warm_up=0,
            frozen_geometry=False,
            **SHORT,
        )
        model.learn(1)
        return model

    cached = learn()
    monkeypatch.setattr(
        features_extractor.GeometryCache,
        "__call__",
        lambda *arguments: (arguments[-1](), None),
    )
    plain = learn()
    assert np.array_equal(cached.rollout_buffer.actions, plain.rollout_buffer.actions)
    for name in ("log_probs", "values", "returns"):
        np.testing.assert_allclose(
            getattr(cached.rollout_buffer, name),
            getattr(plain.rollout_buffer, name),
            rtol=1e-4,
            atol=1e-5,
        )
    for name, weight in plain.policy.state_dict().items():
        torch.testing.assert_close(
            cached.policy.state_dict()[name], weight, rtol=1e-4, atol=1e-5, msg=name
        )


def test_gradients_reach_the_geometry_after_a_roll_out(toy):
    model = warm_start(policy_for(toy), "ppo", envs_for(toy), frozen_geometry=False, **SHORT)
    states, _ = model.policy.obs_to_tensor(next(random_states(model.get_env(), 8)))
    extractor = get_features_extractor(model.policy)

    def gradients():
        extractor.zero_grad()
        model.policy.extract_features(states)[:, : extractor.n_elements].square().sum().backward()
        return {name: weight.grad.clone() for name, weight in extractor.named_parameters()}

    before = gradients()
    with torch.no_grad():
        model.policy.extract_features(states)
    after = gradients()
    assert before["network.encoder.trunk.0.norm.weight"].abs().max() > 0
    for name, gradient in before.items():
        assert torch.equal(gradient, after[name]), name
