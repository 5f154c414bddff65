"""The reward formation-energy: values, caches, failures and copies."""

import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
from ase.calculators.calculator import Calculator, SCFError, all_changes
from pymatgen.core import Lattice, Structure
from solids import ALLOY, FCC, SOLIDS, formation_energies, make_solid

from crystal_gym import load_collection
from crystal_gym.episode import EpisodeTable, finished
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards import FormationEnergyReward
from crystal_gym.rewards.energy.lru_cache import LRUCache

EV_PER_KJ_PER_MOL = 1 / 96.485


@pytest.fixture(scope="module")
def chgnet():
    return FormationEnergyReward()


def test_formation_energies_agree_with_experiment_within_the_error_of_the_model(chgnet):
    computed = formation_energies(chgnet, map(make_solid, SOLIDS))
    measured = [
        enthalpy * EV_PER_KJ_PER_MOL / len(elements.split())
        for _, _, elements, enthalpy in SOLIDS.values()
    ]
    assert np.abs(computed - measured).max() < 0.17
    assert np.abs(computed - measured).mean() < 0.09
    value = dict(zip(SOLIDS, computed, strict=True))
    assert value["NaCl"] == pytest.approx(-2.13, abs=0.1)
    assert value["MgO"] == pytest.approx(-3.12, abs=0.1)
    assert value["SrTiO3"] == pytest.approx(-3.47, abs=0.15)
    assert value["CaF2"] < value["SrTiO3"] < value["MgO"] < value["NaCl"] < value["ZnS"] < 0


def test_reward_is_minus_the_formation_energy(chgnet, toy):
    table = EpisodeTable(toy)
    rows = np.arange(len(toy))
    rewards, components = chgnet.on_finish(table, finished(table, rows, table.true_elements))
    assert np.array_equal(rewards, -components["formation_energy"])
    assert not components["failed"].any()


def test_skeletons_are_converted_once_and_energies_computed_once(toy, monkeypatch):
    reward = FormationEnergyReward()
    table = EpisodeTable(toy)
    rows = np.array([5, 5, 7, 5])
    elements = np.minimum(table.true_elements[rows], 1)
    conversions, batch_sizes = [], []
    network = reward.model.model
    convert, forward = network.graph_converter.forward, network.forward
    monkeypatch.setattr(
        network.graph_converter,
        "forward",
        lambda structure: conversions.append(structure) or convert(structure),
    )
    monkeypatch.setattr(
        network,
        "forward",
        lambda graphs, task: batch_sizes.append(len(graphs)) or forward(graphs, task=task),
    )
    first = reward.on_finish(table, finished(table, rows, elements))[0]
    assert first[0] == first[1] == first[3] != first[2]
    assert len(conversions) == 2
    assert sum(batch_sizes) == 2
    assert np.array_equal(reward.on_finish(table, finished(table, rows, elements))[0], first)
    assert sum(batch_sizes) == 2
    # The same skeleton in another collection is not converted again, whatever its elements.
    other = EpisodeTable(toy.take([7]), toy.vocabulary)
    repeated = reward.on_finish(
        other, finished(other, np.array([0]), np.minimum(other.true_elements, 1))
    )[0]
    assert repeated == first[2]
    reward.on_finish(
        other, finished(other, np.array([0]), np.where(other.true_elements < 0, -1, 2))
    )
    assert len(conversions) == 2


def test_cache_drops_the_least_recently_used_entry():
    cache = LRUCache(2)
    cache["a"], cache["b"] = 1, 2
    assert cache["a"] == 1
    cache["c"] = 3
    assert len(cache) == 2
    assert "b" not in cache
    assert [cache["a"], cache["c"]] == [1, 3]


def test_isolated_sites_fail_without_affecting_other_crystals(chgnet):
    isolated = Structure(Lattice.cubic(9.0), ["Na"], FCC)
    table = EpisodeTable(load_collection([make_solid("NaCl"), isolated]))
    rewards, components = chgnet.on_finish(
        table, finished(table, np.arange(2), table.true_elements)
    )
    assert components["failed"].tolist() == [0, 1]
    assert rewards[1] == -10
    assert rewards[0] == pytest.approx(2.1, abs=0.1)


def test_unsupported_elements_are_rejected_by_the_environment(toy):
    symbols = (*toy.vocabulary.symbols, "Po", "Rn")
    with pytest.raises(CrystalGymError, match="'chgnet' does not support the elements Po, Rn"):
        gym.make(
            "CrystalSkeleton-v0", collection=toy, vocabulary=symbols, reward="formation-energy"
        )


def test_environment_can_be_remade_from_its_spec():
    env = gym.make(
        "CrystalSkeleton-v0",
        split="test",
        reward={"formation-energy": {"calculator": "emt", "references": {"Cu": 0.0}}},
    )
    assert env.spec is not None
    remade = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert remade.unwrapped.reward.model.name == "emt"
    assert json.loads(env.spec.to_json())["kwargs"]["reward"]["formation-energy"]


def test_reward_can_be_pickled(toy):
    reward = FormationEnergyReward()
    table = EpisodeTable(toy)
    row = np.array([5])
    before = reward.on_finish(table, finished(table, row, table.true_elements[row]))[0]
    copy = pickle.loads(pickle.dumps(reward))  # noqa: S301 - made in this test
    assert copy.on_finish(table, finished(table, row, table.true_elements[row]))[0] == before


class FailingCalculator(Calculator):
    """A calculator that converges for Al only and otherwise raises or returns NaN or infinity."""

    implemented_properties = ["energy"]  # noqa: RUF012 - as ASE declares it

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        symbols = set(atoms.get_chemical_symbols())
        if symbols == {"Ni"}:
            raise SCFError("the density oscillates")
        mixed = np.inf if str(atoms.symbols) == "NiAl" else np.nan
        self.results["energy"] = len(atoms) * (-4.0 if symbols == {"Al"} else mixed)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_vector_continues_after_failed_calculations(mode, caplog):
    reward = FormationEnergyReward(
        FailingCalculator(), references={"Al": -3.0, "Ni": -5.0}, fallback=-7.0
    )
    envs = gym.make_vec(
        "CrystalSkeleton-v0",
        1024,
        collection=[ALLOY],
        split="all",
        reward=reward,
        autoreset_mode=mode,
    )
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    first, second = rng.integers(2, size=(2, 1024))
    envs.step(first)
    _, rewards, terminated, _, infos = envs.step(second)
    infos = infos.get("final_info", infos)
    assert terminated.all()
    aluminum = envs.unwrapped.table.vocabulary.symbols.index("Al")
    converged = (first == aluminum) & (second == aluminum)
    assert 100 < converged.sum() < 500
    assert np.array_equal(infos["failed"], ~converged)
    assert (infos["failures"] == (~converged).sum()).all()
    assert (rewards[converged] == 1.0).all()
    assert (rewards[~converged] == -7.0).all()
    assert not np.isfinite(infos["formation_energy"][~converged]).any()
    _, rewards, *_ = envs.step(first)
    assert np.isfinite(rewards).all()
    # The three failing fillings are computed once; the first exception and the first fallback are
    # logged.
    assert "SCFError: the density oscillates" in caplog.text
    assert "so the fallback -7.0 is used" in caplog.text
    assert len(caplog.records) == 2
