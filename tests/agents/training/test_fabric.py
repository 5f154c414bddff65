"""Errors of missing hardware."""

import pytest
from lightning_fabric.utilities.exceptions import MisconfigurationException
from training_runs import SMALL

from crystal_agents.training import fabric
from crystal_agents.training.config import TrainingConfig
from crystal_gym.errors import CrystalGymError


@pytest.mark.parametrize(
    "error",
    [
        MisconfigurationException("You requested gpu: [0, 1]."),
        RuntimeError("No supported gpu backend found!"),
        ValueError("Invalid accelerator name."),
    ],
)
def test_missing_hardware_is_reported_with_its_cause(tmp_path, monkeypatch, error):
    def unavailable(**settings):
        raise error

    monkeypatch.setattr(fabric, "Fabric", unavailable)
    with pytest.raises(CrystalGymError, match=r"accelerator 'cpu', devices 2 and") as raised:
        fabric.make_fabric(TrainingConfig(tmp_path, SMALL, devices=2))
    assert str(error) in str(raised.value)
    assert raised.value.__cause__ is error


def test_unexpected_exceptions_are_not_replaced(tmp_path, monkeypatch):
    def broken(**settings):
        raise AttributeError("a bug")

    monkeypatch.setattr(fabric, "Fabric", broken)
    with pytest.raises(AttributeError, match="a bug"):
        fabric.make_fabric(TrainingConfig(tmp_path, SMALL))
