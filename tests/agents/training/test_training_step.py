"""The training step, compared with that of earlier versions in ``benchmarks``."""

import dataclasses
from pathlib import Path

import pytest
import torch
from training_runs import SMALL

from crystal_agents.training.behavioral_cloning import CloningLearner
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.fabric import make_fabric
from crystal_agents.training.seeding import make_generator

SETTINGS = SMALL.settings | {"geometry_layers": 2, "filling_layers": 2, "crystal": 32}
# Without dropout, whose random numbers differ.
RECIPE = dataclasses.replace(
    SMALL, settings={**SETTINGS, "dropout": 0.0}, skeletons=8, optimizer="muon"
)
# Changes that keep the losses within the precision of 32 bits.
EXACT = [
    "one pass of the geometry",
    "pairs computed once",
    "shared terms of a pair's directions",
    "fused AdamW and running average",
    "dropout with 16 bits",
]


@pytest.fixture
def levers(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    from reference_training import LEVERS

    return LEVERS


def losses_of_steps(data, folder, change):
    """Return the losses of three steps, and the average of the weights."""
    config = TrainingConfig(folder, RECIPE)
    fabric = make_fabric(config)
    torch.manual_seed(0)
    learner = CloningLearner(config, fabric, data, None)
    change(learner, fabric)
    losses = []
    for step, rows in enumerate(learner.batches(make_generator(0))[:3]):
        result = learner.loss(rows, make_generator(0, step))
        fabric.backward(result.loss)
        for optimizer in learner.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        learner.after_step()
        losses.append(result.loss.item())
    return losses, torch.cat([weight.flatten() for weight in learner.average.parameters()])


def test_losses_equal_those_of_the_steps_of_earlier_versions(expert, tmp_path, levers):
    expected, average = losses_of_steps(expert, tmp_path, lambda *_: None)

    def undo_exact(learner, fabric):
        for name in EXACT:
            levers[name](learner, fabric)

    found, earlier_average = losses_of_steps(expert, tmp_path, undo_exact)
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    # The iteration of Muon rounds to 16 bits, which enlarges small differences.
    assert found == pytest.approx(expected, rel=1e-3)
    torch.testing.assert_close(earlier_average, average, atol=5e-3, rtol=0)


def test_batched_orthogonalization_changes_losses_by_the_rounding_to_16_bits(
    expert, tmp_path, levers
):
    expected, _ = losses_of_steps(expert, tmp_path, lambda *_: None)
    found, _ = losses_of_steps(expert, tmp_path, levers["batched Newton-Schulz iteration"])
    assert found == pytest.approx(expected, rel=5e-3)


def test_every_change_has_a_step_to_compare_with(levers):
    assert set(levers) == {*EXACT, "batched Newton-Schulz iteration"}


def test_mixed_precision_gives_gradients_to_all_weights(expert, tmp_path):
    # Casts of weights in the pass without gradients must not be reused with gradients.
    config = TrainingConfig(tmp_path, RECIPE, precision="bf16-mixed")
    fabric = make_fabric(config)
    torch.manual_seed(0)
    learner = CloningLearner(config, fabric, expert, None)
    rows = learner.batches(make_generator(0))[0]
    fabric.backward(learner.loss(rows, make_generator(0)).loss)
    without = [name for name, weight in learner.policy.named_parameters() if weight.grad is None]
    assert not without
