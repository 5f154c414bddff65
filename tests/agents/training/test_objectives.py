"""Objectives of behavioral cloning: batches of an epoch, and losses against their equations."""

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from training_runs import SMALL

from crystal_agents.synthetic.posterior_batches import SyntheticBatch
from crystal_agents.training import objectives
from crystal_agents.training.objectives import (
    EmptySitesObjective,
    FocusObjective,
    PosteriorObjective,
    make_objective,
)
from crystal_agents.training.seeding import make_generator
from crystal_agents.training.transition_batches import TransitionStore
from crystal_gym.errors import CrystalGymError

ALL = slice(None)
N_ELEMENTS = 5


class RandomLogits(nn.Module):
    """Fixed random logits for each element code of a site; records the states of its calls."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = torch.randn(N_ELEMENTS + 1, N_ELEMENTS, generator=generator)
        self.states = []

    def geometry(self, skeletons):
        return None

    def forward(self, skeletons, elements, focus=None, geometry=None, target=None):
        self.states.append(elements)
        site = torch.arange(elements.shape[-1]) % 3
        logits = self.table[elements] + site[:, None] * self.table[1]
        if focus is None:
            return logits
        index = (skeletons.first + focus)[..., None].expand(-1, -1, N_ELEMENTS)
        return logits.gather(1, index)


class EqualLogits(nn.Module):
    """Equal logits for all elements."""

    def geometry(self, skeletons):
        return None

    def forward(self, skeletons, elements, focus=None, geometry=None, target=None):
        leading = elements.shape if focus is None else focus.shape
        return torch.zeros(*leading, N_ELEMENTS)


class RandomPosteriors:
    """A store of six synthetic crystals with random fillings and posteriors."""

    n_draws = 3

    def __init__(self, store):
        self.skeletons = store.skeletons

    def __len__(self):
        return 6

    def batch(self, rows, draws):
        skeletons = self.skeletons.batch(rows)
        shape = (len(draws), len(skeletons.owner))
        # Each state depends only on its own draws.
        keys = draws[..., 0][:, skeletons.owner]
        elements = (keys * 100).long() % (N_ELEMENTS + 1)
        elements[:, skeletons.first] = 0
        target = torch.softmax(torch.arange(N_ELEMENTS) * keys[..., None], -1)
        return SyntheticBatch(skeletons, elements.view(shape), target)


@pytest.fixture
def store(expert):
    return TransitionStore(expert)


@pytest.fixture(params=[FocusObjective, EmptySitesObjective, PosteriorObjective])
def objective(request, store):
    if request.param is PosteriorObjective:
        return PosteriorObjective(RandomPosteriors(store), dataclasses.replace(SMALL, skeletons=4))
    return request.param(store, SMALL)


def batch_loss(objective, model, rows, share=ALL):
    return objective.batch_loss(model, rows, make_generator(7), share)


def test_epochs_are_shuffled_and_have_equal_numbers_of_batches(objective):
    first, second = (objective.batches(make_generator(0, epoch)) for epoch in range(2))
    assert len(first) == len(second) > 1
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert set(torch.cat(first).flatten().tolist()) == set(torch.cat(second).flatten().tolist())
    assert {len(rows) for rows in first[:-1]} == {objective.skeletons}


def test_equal_logits_give_the_entropy_of_the_uniform_distribution(objective):
    rows = objective.batches(make_generator(0))[0]
    loss, _, count = batch_loss(objective, EqualLogits(), rows)
    assert loss.shape == (objective.states, len(rows))
    # A state without empty sites has no loss.
    expected = torch.full_like(loss, math.log(N_ELEMENTS))
    assert torch.allclose(loss, torch.where(loss == 0, loss, expected))
    assert (loss > 0).any()
    assert count > 0


def test_shares_of_two_processes_add_up_to_the_whole_batch(objective):
    rows = objective.batches(make_generator(0))[0]
    whole = batch_loss(objective, EqualLogits(), rows)
    shares = [slice(process, None, 2) for process in range(2)]
    parts = [batch_loss(objective, EqualLogits(), rows, share) for share in shares]
    for share, part in zip(shares, parts, strict=True):
        assert torch.allclose(whole.loss[:, share], part.loss)
    assert sum(part.correct for part in parts) == whole.correct
    assert sum(part.count for part in parts) == whole.count


def test_the_focus_objective_is_the_cross_entropy_of_the_action(expert, store):
    objective, model = FocusObjective(store, SMALL), RandomLogits()
    rows = objective.batches(make_generator(0))[0]
    loss, correct, count = batch_loss(objective, model, rows)
    batch = store.batch(rows)
    logits = model(batch.skeletons, batch.elements, batch.focus)
    actions = torch.as_tensor(expert.action.astype(int))[rows.T]
    for k in range(objective.states):
        for s in range(len(rows)):
            expected = -logits[k, s].log_softmax(-1)[actions[k, s]]
            assert loss[k, s].item() == pytest.approx(expected.item(), rel=1e-5)
    assert correct == (logits.argmax(-1) == actions).sum()
    assert count == rows.numel()


def test_the_empty_sites_objective_averages_over_the_empty_sites_of_each_state(store):
    objective, model = EmptySitesObjective(store, SMALL), RandomLogits()
    rows = objective.batches(make_generator(0))[0]
    loss, correct, count = batch_loss(objective, model, rows)
    elements = model.states[-1]
    batch = store.batch(rows)
    logits = model(batch.skeletons, elements)
    n_correct = n_empty = 0
    for k in range(objective.states):
        for s in range(len(rows)):
            sites = torch.nonzero((batch.skeletons.owner == s) & (elements[k] == 0))[:, 0]
            target = batch.finished[sites] - 1
            losses = F.cross_entropy(logits[k, sites], target, reduction="none")
            assert loss[k, s].item() == pytest.approx(losses.mean().item(), rel=1e-5)
            n_correct += int((logits[k, sites].argmax(-1) == target).sum())
            n_empty += len(sites)
    assert (correct, count) == (n_correct, n_empty)


def test_every_second_state_is_filled_with_predictions_of_the_policy(store):
    objective, model = EmptySitesObjective(store, SMALL), RandomLogits()
    rows = objective.batches(make_generator(0))[0]
    batch_loss(objective, model, rows)
    empty, elements = model.states
    assert (empty == 0).all()
    batch = store.batch(rows)
    predicted = (model(batch.skeletons, empty).argmax(-1) + 1).expand_as(elements)
    filled = elements > 0
    by_policy = torch.arange(len(elements)) % 2 == 1
    assert (elements[by_policy] == predicted[by_policy])[filled[by_policy]].all()
    true = batch.finished.expand_as(elements)
    assert (elements[~by_policy] == true[~by_policy])[filled[~by_policy]].all()
    assert filled[by_policy].any()
    assert filled[~by_policy].any()
    assert (predicted != true).any()


def test_the_empty_sites_objective_rejects_several_fillings_of_a_crystal(random):
    with pytest.raises(
        CrystalGymError, match="Expected transitions with one filling for each crystal"
    ):
        EmptySitesObjective(TransitionStore(random), SMALL)


def test_the_posterior_objective_is_the_cross_entropy_of_the_posterior(store):
    synthetic = RandomPosteriors(store)
    objective, model = PosteriorObjective(synthetic, SMALL), RandomLogits()
    rows = torch.tensor([4, 1, 2])
    loss, correct, count = batch_loss(objective, model, rows)
    draws = torch.rand(objective.states, 3, synthetic.n_draws, generator=make_generator(7))
    batch = synthetic.batch(rows, draws)
    logits = model(batch.skeletons, batch.elements)
    empty = batch.elements == 0
    for k in range(objective.states):
        for s in range(3):
            sites = torch.nonzero((batch.skeletons.owner == s) & empty[k])[:, 0]
            losses = -(batch.target[k, sites] * logits[k, sites].log_softmax(-1)).sum(-1)
            assert loss[k, s].item() == pytest.approx(losses.mean().item(), rel=1e-5)
    assert correct == ((logits.argmax(-1) == batch.target.argmax(-1)) & empty).sum()
    assert count == empty.sum()


@pytest.mark.parametrize(
    ("traversals", "kind"), [("expert", FocusObjective), ("random", EmptySitesObjective)]
)
def test_the_recipe_chooses_the_objective_of_transitions(expert, traversals, kind):
    recipe = dataclasses.replace(SMALL, traversals=traversals)
    assert type(make_objective(recipe, expert, None, "cpu")) is kind


@pytest.mark.parametrize("traversals", ["expert", "random"])
def test_synthetic_crystals_replace_the_transitions(expert, store, monkeypatch, traversals):
    calls = []

    def make_store(*args):
        calls.append(args)
        return RandomPosteriors(store)

    monkeypatch.setattr(objectives, "SyntheticStore", make_store)
    recipe = dataclasses.replace(SMALL, traversals=traversals)
    crystals = object()
    assert type(make_objective(recipe, expert, crystals, "cpu")) is PosteriorObjective
    assert calls == [(crystals, N_ELEMENTS, "cpu")]
