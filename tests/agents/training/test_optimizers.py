"""Optimizers, learning rates and the running average."""

import dataclasses

import pytest
import torch
from torch import nn
from training_runs import SMALL

from crystal_agents.training.optimizers import (
    RunningAverage,
    learning_rate_factor,
    make_optimizers,
    peak_learning_rates,
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


def follow(decay, values):
    """Return the running average of a weight after each of its values."""
    model = nn.Linear(1, 1, bias=False)
    average = RunningAverage(model, decay)
    found = []
    for value in values:
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
        found.append(average.module.weight.item())
    return found


def test_the_running_average_starts_with_the_first_weights_and_forgets_them_quickly():
    # Update n keeps (1 + n) / (10 + n) of the average until this exceeds the decay.
    expected = [0.0, 9 / 11]
    expected.append(1 + (expected[1] - 1) * 3 / 12)
    assert follow(0.999, [0.0, 1.0, 1.0]) == pytest.approx(expected)


def test_the_running_average_keeps_the_decay_in_late_steps():
    average = follow(0.5, [0.0] * 20 + [1.0])
    assert average[-1] == pytest.approx(0.5)


def test_the_running_average_has_the_buffers_of_the_model():
    model = nn.BatchNorm1d(2)
    average = RunningAverage(model, 0.9)
    model(torch.arange(6.0).view(3, 2))
    average.update_parameters(model)
    assert torch.equal(average.module.running_mean, model.running_mean)
