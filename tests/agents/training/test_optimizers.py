"""Optimizers, learning rates and the running average."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from training_runs import SMALL

from crystal_agents.training.optimizers import (
    learning_rate_factor,
    make_optimizers,
    peak_learning_rates,
    running_average,
    set_learning_rates,
)


@pytest.fixture
def network():
    return nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3))


def recipe(**changes):
    return dataclasses.replace(SMALL, learning_rate=0.3, weight_decay=0.1, **changes)


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
def test_every_parameter_has_exactly_one_optimizer(network, name):
    optimizers = make_optimizers(network, recipe(optimizer=name))
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in network.parameters())


def test_adamw_decays_the_weights_of_linear_layers_only(network):
    (optimizer,) = make_optimizers(network, recipe(optimizer="adamw"))
    decayed, others = optimizer.param_groups
    assert decayed["params"] == [network[1].weight, network[3].weight]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0)


def test_muon_optimizes_all_linear_layers_except_the_last(network):
    muon, adamw = make_optimizers(network, recipe(optimizer="muon"))
    assert muon.param_groups[0]["params"] == [network[1].weight]
    assert muon.param_groups[0]["lr"] == 0.3
    assert adamw.param_groups[0]["lr"] == pytest.approx(0.1)


def test_the_constant_schedule_stays_at_the_peak():
    constant = recipe(schedule="constant")
    assert {learning_rate_factor(constant, step, 50) for step in range(50)} == {1.0}


@pytest.mark.parametrize(("last_step", "warm_up"), [(10_000, 200), (500, 50), (5, 1)])
def test_the_cosine_schedule_increases_linearly_and_then_decreases(last_step, warm_up):
    factors = [learning_rate_factor(recipe(), step, last_step) for step in range(last_step)]
    assert factors[0] == pytest.approx(1 / warm_up, rel=1e-2)
    assert max(factors) == factors[warm_up - 1] > 0.9
    decreasing = factors[warm_up - 1 :]
    assert decreasing == sorted(decreasing, reverse=True)
    half = learning_rate_factor(recipe(), last_step // 2, last_step)
    assert half == pytest.approx(0.5, abs=0.5 / last_step * torch.pi)
    assert min(factors[warm_up:], default=1) >= 0.01


def test_the_cosine_schedule_ends_at_a_hundredth_of_the_peak():
    assert learning_rate_factor(recipe(), 9_999, 10_000) == 0.01


def test_learning_rates_are_fractions_of_their_peaks(network):
    optimizers = make_optimizers(network, recipe(optimizer="muon"))
    peaks = peak_learning_rates(optimizers)
    assert peaks == [[0.3], [pytest.approx(0.1)]]
    set_learning_rates(optimizers, peaks, 0.5)
    set_learning_rates(optimizers, peaks, 0.5)
    assert peak_learning_rates(optimizers) == [[0.15], [pytest.approx(0.05)]]


def test_the_decay_of_the_running_average_is_smaller_in_early_steps():
    update = running_average(0.999)
    averaged, current = torch.tensor([0.0]), torch.tensor([1.0])
    assert update(averaged, current, 0).item() == pytest.approx(0.9)
    assert update(averaged, current, 90).item() == pytest.approx(0.09)
    assert update(averaged, current, 10**6).item() == pytest.approx(0.001, rel=1e-3)


def test_the_running_average_follows_the_weights_of_a_model():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    average = AveragedModel(model, avg_fn=running_average(0.5))
    average.update_parameters(model)
    nn.init.constant_(model.weight, 1.0)
    average.update_parameters(model)
    # The second update keeps (1 + 1) / (10 + 1) of the average.
    assert average.module.weight.item() == pytest.approx(9 / 11)
