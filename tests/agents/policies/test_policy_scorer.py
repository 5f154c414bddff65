"""A scorer encodes the geometry of skeletons once; its logits are those of the policy."""

import numpy as np
import pytest
import torch

from crystal_agents.networks.registry import ENCODERS
from crystal_agents.policies.policy import PolicyConfig, PolicyScorer, SkeletonPolicy
from crystal_gym.episode import EpisodeTable, fill, start


@pytest.fixture
def table(toy):
    return EpisodeTable(toy)


def make_policy(table, network="egnn"):
    torch.manual_seed(0)
    return SkeletonPolicy(PolicyConfig(network, table.vocabulary.symbols, table.max_sites)).eval()


def states(table, crystals):
    """Yield the state before each step of episodes of the crystals."""
    order = table.breadth_first(crystals, np.zeros(len(crystals), np.int64))
    state = start(table, crystals, order)
    for step in range(int(table.n_sites[crystals].min())):
        yield state
        fill(state, (state.crystal + step) % table.n_elements)


def plain_logits(policy, table, state):
    """Return the logits of a forward pass on each state alone."""
    scorers = [PolicyScorer(policy, table) for _ in state.crystal]
    rows = []
    for i, scorer in enumerate(scorers):
        batch = scorer.store.batch(torch.as_tensor(state.crystal[i : i + 1]))
        codes = batch.flat(torch.as_tensor(state.elements[i : i + 1], dtype=torch.int64)[None])
        with torch.no_grad():
            rows.append(policy(batch, codes, torch.as_tensor(state.focus[None, i : i + 1]))[0, 0])
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("network", ENCODERS)
def test_logits_of_every_step_equal_those_of_single_states(network, table):
    policy = make_policy(table, network)
    score = PolicyScorer(policy, table)
    for crystals in (np.array([4, 10]), np.array([10, 4]), np.array([5])):
        for state in states(table, crystals):
            np.testing.assert_allclose(
                score(state), plain_logits(policy, table, state), rtol=1e-4, atol=1e-5
            )


def test_the_geometry_is_encoded_once_for_each_batch_of_crystals(table, monkeypatch):
    policy = make_policy(table)
    encoded = []
    geometry = policy.encoder.geometry
    monkeypatch.setattr(
        policy.encoder, "geometry", lambda batch: encoded.append(len(batch)) or geometry(batch)
    )
    score = PolicyScorer(policy, table)
    for crystals in (np.array([4, 10]), np.array([5])):
        for state in states(table, crystals):
            score(state)
    assert encoded == [2, 1]


def test_new_weights_change_the_logits(table):
    policy = make_policy(table)
    score = PolicyScorer(policy, table)
    state = next(states(table, np.array([4])))
    before = score(state)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(1.5)
    after = score(state)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, plain_logits(policy, table, state), rtol=1e-4, atol=1e-5)
