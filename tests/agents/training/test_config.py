"""Validation of the training configuration."""

import dataclasses
import math

import pytest
from training_runs import SMALL, run_cloning

from crystal_agents.training.config import TrainingConfig, check_config
from crystal_gym.errors import CrystalGymError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validate_every": 0}, "validate_every to be at least 1"),
        ({"devices": 0}, "devices to be at least 1"),
        ({"patience": -1}, "patience to be at least 0"),
        ({"seed": -1}, "seed from 0 to"),
        ({"seed": 2**64}, "seed from 0 to"),
        ({"accelerator": "abacus"}, "Cannot train with accelerator 'abacus'"),
    ],
)
def test_invalid_settings_are_rejected_before_anything_is_written(
    expert, tmp_path, change, message
):
    with pytest.raises(CrystalGymError, match=message):
        run_cloning(tmp_path, expert, **change)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs to be at least 1"),
        ({"skeletons": 0}, "skeletons to be at least 1"),
        ({"states": 0}, "states to be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate to be at least 0"),
        ({"learning_rate": math.inf}, "and finite, got inf"),
        ({"learning_rate": math.nan}, "and finite, got nan"),
    ],
)
def test_invalid_recipes_are_rejected_before_anything_is_written(expert, tmp_path, change, message):
    with pytest.raises(CrystalGymError, match=message):
        run_cloning(tmp_path, expert, dataclasses.replace(SMALL, **change))
    assert not list(tmp_path.iterdir())


def test_patience_needs_validation_transitions(expert, tmp_path):
    with pytest.raises(CrystalGymError, match="Expected validation transitions for patience 3"):
        run_cloning(tmp_path, expert, patience=3)
    check_config(TrainingConfig(tmp_path, SMALL, patience=3), expert)
