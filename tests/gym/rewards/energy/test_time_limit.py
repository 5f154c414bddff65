"""Energies with a time limit, in a process of their own."""

import os
import pickle
import time

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes

from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards import FormationEnergyReward
from crystal_gym.rewards.energy.ase_calculators import AseEnergy
from crystal_gym.rewards.energy.time_limit import TimeLimitedEnergy


class Troubled(Calculator):
    """Minus the atomic number; sodium takes forever, potassium ends the process at first.

    Each calculation appends a character to a file.
    """

    implemented_properties = ("energy",)

    def __init__(self, file):
        super().__init__()
        self.file = file

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        number = int(self.atoms.numbers[0])
        print("a calculator prints")
        with self.file.open("a") as calls:
            calls.write("x")
        if number == 11:
            time.sleep(600)
        if number == 19 and len(self.file.read_text()) == 1:
            os._exit(1)
        if number == 37:
            raise RuntimeError("rubidium")
        if number == 55:
            raise CrystalGymError("Expected another element, got Cs.")
        self.results["energy"] = -float(number)


def cells(*numbers):
    skeleton = Skeleton(
        np.array([3.0, 3.0, 3.0, 90.0, 90.0, 90.0]), np.zeros((1, 3)), np.zeros((0, 5), np.int32)
    )
    return [(skeleton, np.array([number])) for number in numbers]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "calls"


def count(file):
    return len(file.read_text())


def test_a_computation_that_takes_too_long_is_nan_and_the_others_are_computed(file):
    model = TimeLimitedEnergy(AseEnergy(Troubled(file)), timeout=5)
    np.testing.assert_array_equal(model.energies(cells(3, 11, 4)), [-3, np.nan, -4])
    assert count(file) == 3


def test_a_process_that_ends_is_started_again(file):
    model = TimeLimitedEnergy(AseEnergy(Troubled(file)), timeout=np.inf, retries=1)
    np.testing.assert_array_equal(model.energies(cells(19, 3)), [-19, -3])
    assert count(file) == 3


def test_a_failed_computation_is_repeated(file):
    model = TimeLimitedEnergy(AseEnergy(Troubled(file)), 60, retries=2)
    model = pickle.loads(pickle.dumps(model))  # noqa: S301
    np.testing.assert_array_equal(model.energies(cells(37)), [np.nan])
    assert count(file) == 3
    with pytest.raises(CrystalGymError, match="got Cs"):
        model.energies(cells(55))
    np.testing.assert_array_equal(model.energies(cells(3)), [-3])


def test_a_model_that_cannot_be_made_is_reported(file):
    class Broken(AseEnergy):
        def __reduce__(self):
            return eval, ("1/0",)

    with pytest.raises(CrystalGymError, match=r"energies with Troubled, got one that ended"):
        TimeLimitedEnergy(Broken(Troubled(file)), 60).energies(cells(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout to be a positive number of seconds, got 0"),
        ({"timeout": float("nan")}, "got nan"),
        ({"retries": -1}, "retries to be an integer from 0, got -1"),
        ({"retries": 1.5}, "got 1.5"),
    ],
)
def test_invalid_limits_are_rejected(options, message):
    with pytest.raises(CrystalGymError, match=message):
        FormationEnergyReward("emt", **options)


def test_the_reward_is_the_same_with_a_limit(file):
    reward = FormationEnergyReward("emt", timeout=60, retries=1)
    plain = FormationEnergyReward("emt")
    crystals = cells(29, 79)
    np.testing.assert_array_equal(reward.model.energies(crystals), plain.model.energies(crystals))
