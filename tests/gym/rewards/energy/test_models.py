"""Energy models: CHGNet, ASE calculators and their errors."""

import importlib.util
import logging
import pickle
import sys

import numpy as np
import pytest
from ase.calculators.emt import EMT
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from solids import ALLOY, formation_energies

from crystal_gym import load_collection
from crystal_gym.episode import EpisodeTable, finished
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards import FormationEnergyReward, resolve_reward
from crystal_gym.rewards.energy.chgnet import ChgnetEnergy
from crystal_gym.rewards.energy.interface import split_by_sites
from crystal_gym.rewards.energy.models import resolve_energy_model


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True:UserWarning")
def test_batched_energies_equal_those_of_single_structures(toy):
    model = ChgnetEnergy()
    rng = np.random.default_rng(0)
    table = EpisodeTable(toy)
    rows = rng.permutation(np.repeat(np.arange(len(toy)), 2))
    codes = rng.integers(1, table.n_elements + 1, (len(rows), table.max_sites)).astype(np.int32)
    codes[table.blank[rows] < 0] = -1
    numbers = table.vocabulary.decode(codes)
    reward = FormationEnergyReward()
    formation = reward.on_finish(table, finished(table, rows, codes))[1]["formation_energy"]
    energies = formation + reward.references.mean_over_atoms(numbers)
    for row, sites, energy in zip(rows[:8], numbers, energies, strict=False):
        structure = toy.skeleton(int(row)).fill(sites[: toy.n_sites[row]])
        direct = model.model.predict_structure(structure, task="e")["e"]
        assert energy == pytest.approx(float(direct), abs=1e-4)


def test_loading_chgnet_prints_nothing(capsys):
    assert ChgnetEnergy().model.version == "0.3.0"
    assert capsys.readouterr().out == ""


def test_calculators_by_name_class_and_object_agree():
    rewards = [
        FormationEnergyReward("emt"),
        FormationEnergyReward("ase.calculators.emt:EMT", {"asap_cutoff": False}),
        FormationEnergyReward(EMT()),
        resolve_reward({"formation-energy": {"calculator": "emt"}}),
    ]
    values = [formation_energies(reward, [ALLOY])[0] for reward in rewards]
    assert values == pytest.approx([values[0]] * 4)
    assert 0 < values[0] < 1


def test_every_failure_is_logged_with_its_traceback_at_debug_level(toy, caplog):
    model = resolve_energy_model("emt")
    crystal = toy.skeleton(0), np.full(toy.n_sites[0], 22)  # EMT has no parameters for titanium
    with caplog.at_level(logging.DEBUG, logger="crystal_gym"):
        assert np.isnan(model.energies([crystal, crystal])).all()
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "DEBUG", "DEBUG"]
    assert caplog.records[-1].exc_info is not None


def test_network_that_fails_to_load_is_not_a_failure_of_a_crystal(toy, monkeypatch):
    def fail_to_load(device):
        raise OSError("no weights")

    monkeypatch.setattr("crystal_gym.rewards.energy.chgnet.load_chgnet", fail_to_load)
    model = resolve_energy_model("chgnet")
    with pytest.raises(OSError, match="no weights"):
        model.energies([(toy.skeleton(0), toy.atomic_numbers[0, : toy.n_sites[0]])])


def test_unavailable_device_is_an_error_at_the_first_crystal(toy):
    model = resolve_energy_model("chgnet", {"device": "cuda:99"})
    with pytest.raises(CrystalGymError, match="cannot run on the device 'cuda:99'"):
        model.energies([(toy.skeleton(0), toy.atomic_numbers[0, : toy.n_sites[0]])])


def test_unknown_calculators_are_rejected():
    with pytest.raises(UnknownNameError, match=r"calculator 'chgnett'. Did you mean 'chgnet'"):
        FormationEnergyReward("chgnett")
    with pytest.raises(UnknownNameError, match="Unknown calculator 'calculator'"):
        FormationEnergyReward("calculator")
    for calculator in (EMT, 3, None):
        with pytest.raises(CrystalGymError, match="Expected calculator to be a name"):
            FormationEnergyReward(calculator)
    with pytest.raises(CrystalGymError, match="has no class 'EMTT'"):
        FormationEnergyReward("ase.calculators.emt:EMTT")
    with pytest.raises(CrystalGymError, match="needs the package 'not_there'"):
        FormationEnergyReward("not_there:EMT")
    with pytest.raises(CrystalGymError, match="class of an ASE calculator, got 'os:system'"):
        FormationEnergyReward("os:system")
    for name in (":EMT", ".emt:EMT", "ase.calculators.emt:"):
        with pytest.raises(CrystalGymError, match="class as 'module:Class'"):
            FormationEnergyReward(name)


def test_invalid_parameters_are_rejected():
    with pytest.raises(CrystalGymError, match=r"does not accept the settings .*'color'"):
        FormationEnergyReward("chgnet", {"color": 1})
    for device in ("gpu", "nowhere:0"):
        with pytest.raises(CrystalGymError, match=f"cannot run on the device '{device}'"):
            FormationEnergyReward("chgnet", {"device": device})
    for settings in ([1], "x"):
        with pytest.raises(CrystalGymError, match="settings to be a mapping of names to values"):
            FormationEnergyReward("emt", settings)
        with pytest.raises(CrystalGymError, match="references to be a mapping of symbols"):
            FormationEnergyReward("emt", references=settings)
    with pytest.raises(CrystalGymError, match="no settings together with a calculator"):
        FormationEnergyReward(EMT(), {"asap_cutoff": True})
    with pytest.raises(CrystalGymError, match="Expected fallback to be a finite number"):
        FormationEnergyReward("emt", fallback=float("nan"))


def test_missing_packages_are_reported_with_the_extra_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "chgnet" else find(name)
    )
    with pytest.raises(CrystalGymError, match=r"CHGNet .* pip install 'crystal-gym\[energy\]'"):
        FormationEnergyReward()
    monkeypatch.setitem(sys.modules, "ase.calculators.calculator", None)
    with pytest.raises(CrystalGymError, match=r"ASE .* pip install 'crystal-gym\[energy\]'"):
        FormationEnergyReward("emt")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "gpaw", None)
    with pytest.raises(CrystalGymError, match="'gpaw' needs the package 'gpaw'"):
        FormationEnergyReward("gpaw")


@hypothesis_settings(max_examples=25)
@given(st.lists(st.integers(1, 90), max_size=10), st.integers(1, 64))
def test_batches_are_consecutive_and_as_large_as_the_limit_allows(sizes, limit):
    crystals = [(None, np.ones(size, int)) for size in sizes]
    batches = list(split_by_sites(crystals, limit))
    assert [index for batch in batches for index in batch] == list(range(len(sizes)))
    totals = [sum(sizes[index] for index in batch) for batch in batches]
    for batch, total in zip(batches, totals, strict=True):
        assert len(batch) == 1 or total <= limit
    for total, following in zip(totals, batches[1:], strict=False):
        assert total + sizes[following[0]] > limit


def test_models_by_name_are_pickled_without_the_state_of_their_calculator():
    model = resolve_energy_model("emt")
    fresh = pickle.dumps(model)
    crystals = [(load_collection([ALLOY]).skeleton(0), np.array([28, 13]))]
    energies = model.energies(crystals)
    assert pickle.dumps(model) == fresh
    assert np.array_equal(pickle.loads(fresh).energies(crystals), energies)  # noqa: S301
