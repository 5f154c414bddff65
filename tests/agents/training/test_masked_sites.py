"""The objective of masked-element modeling: its states and its loss."""

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from training_runs import SMALL

from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_agents.training.masked_sites import MaskedSitesObjective, sample_subsets
from crystal_agents.training.objectives import make_objective
from crystal_agents.training.seeding import make_generator
from crystal_agents.training.transition_batches import TransitionStore
from crystal_gym.errors import CrystalGymError

ALL = slice(None)
N_ELEMENTS = 5
RECIPE = dataclasses.replace(
    SMALL, network="mpnn", settings={"hidden": 16}, skeletons=4, states=3, traversals="masked"
)


class RecordingPolicy(nn.Module):
    """A small policy that records the states of its calls."""

    def __init__(self, data):
        super().__init__()
        torch.manual_seed(0)
        config = PolicyConfig("mpnn", data.vocabulary, 5, {"hidden": 16, "dropout": 0.0})
        self.policy = SkeletonPolicy(config)
        self.encoder = self.policy.encoder
        self.geometry = self.policy.geometry
        self.states = []

    def forward(self, skeletons, elements, geometry=None):
        self.states.append(elements)
        return self.policy(skeletons, elements, geometry=geometry)


@pytest.fixture
def objective(expert):
    return make_objective(RECIPE, expert, None, "cpu")


def test_an_epoch_contains_each_crystal_once(objective, expert):
    assert type(objective) is MaskedSitesObjective
    first, second = (torch.cat(objective.batches(make_generator(0, epoch))) for epoch in range(2))
    assert not torch.equal(first, second)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(len(expert.n_sites)))


class CallOnly(nn.Module):
    """A model of several processes, which exchange the gradients of one call of it."""

    def __init__(self, policy):
        super().__init__()
        self.policy = policy
        self.gradients = []

    def forward(self, *args, **kwargs):
        self.gradients.append(torch.is_grad_enabled())
        return self.policy(*args, **kwargs)


def test_the_shares_of_processes_have_the_losses_and_gradients_of_the_batch(objective, expert):
    model = RecordingPolicy(expert).policy
    rows = objective.batches(make_generator(0))[0]
    whole = objective.batch_loss(model, rows, make_generator(7), ALL)
    whole.loss.sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    for rank in range(2):
        shared = CallOnly(model)
        part = objective.batch_loss(shared, rows, make_generator(7), slice(rank, None, 2))
        assert shared.gradients == [False, True]
        torch.testing.assert_close(part.loss, whole.loss[:, rank::2], rtol=1e-4, atol=1e-5)
        part.loss.sum().backward()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)


def test_the_loss_averages_over_the_empty_sites_of_each_state(objective, expert):
    model = RecordingPolicy(expert)
    rows = objective.batches(make_generator(0))[0]
    loss, correct, count = objective.batch_loss(model, rows, make_generator(7), ALL)
    empty, subsets = model.states
    assert (empty == 0).all()
    assert (subsets == 0).any()
    assert (subsets > 0).any()
    elements = torch.cat([empty, subsets])
    batch = objective.store.skeletons.batch(rows)
    target = batch.flat(objective.store.finished[rows]) - 1
    logits = model.policy(batch, elements)
    assert loss.shape == (3, len(rows))
    for k in range(3):
        for s in range(len(rows)):
            sites = (batch.owner == s) & (elements[k] == 0)
            expected = F.cross_entropy(logits[k, sites], target[sites])
            assert loss[k, s].item() == pytest.approx(expected.item(), rel=1e-4)
    assert count == (elements == 0).sum()
    assert correct == ((logits.argmax(-1) == target) & (elements == 0)).sum()


def test_shares_of_two_processes_add_up_to_the_whole_batch(objective, expert):
    model = RecordingPolicy(expert).eval()
    rows = objective.batches(make_generator(0))[0]
    whole = objective.batch_loss(model, rows, make_generator(7), ALL)
    for process in range(2):
        share = slice(process, None, 2)
        part = objective.batch_loss(model, rows, make_generator(7), share)
        torch.testing.assert_close(part.loss, whole.loss[:, share])


def test_subsets_have_uniform_sizes_and_come_from_two_fillings(expert):
    store = TransitionStore(expert)
    rows = torch.arange(len(expert.n_sites)).repeat(200)
    batch = store.skeletons.batch(rows)
    finished = batch.flat(store.finished[rows])
    predicted = torch.full_like(finished, N_ELEMENTS + 1)
    draws = torch.rand(1, len(rows), store.skeletons.max_sites + 2, generator=make_generator(0))
    (elements,) = sample_subsets(batch, finished, predicted, draws)
    filled = torch.zeros(len(rows)).index_add(0, batch.owner, (elements > 0).float())
    assert (filled < batch.n_sites).all()
    assert (filled / (batch.n_sites - 1).clamp_min(1))[batch.n_sites > 1].mean() == pytest.approx(
        0.5, abs=0.03
    )
    own = torch.zeros(len(rows)).index_add(0, batch.owner, (elements == predicted).float())
    # Each filling is that of the expert or that of the policy.
    assert ((own == 0) | (own == filled)).all()
    assert (own[filled > 0] > 0).float().mean() == pytest.approx(0.5, abs=0.05)
    is_filled = elements > 0
    assert ((elements == finished) | (elements == predicted))[is_filled].all()


def test_equal_logits_give_the_entropy_of_the_uniform_distribution(objective, expert):
    model = RecordingPolicy(expert)
    nn.init.zeros_(model.policy.readout.action[-1].weight)
    nn.init.zeros_(model.policy.readout.action[-1].bias)
    rows = objective.batches(make_generator(0))[0]
    loss, _, _ = objective.batch_loss(model, rows, make_generator(0), ALL)
    torch.testing.assert_close(loss, torch.full_like(loss, math.log(N_ELEMENTS)))


def test_several_fillings_of_a_crystal_are_rejected(random):
    with pytest.raises(CrystalGymError, match="one filling for each crystal"):
        MaskedSitesObjective(TransitionStore(random), RECIPE)
