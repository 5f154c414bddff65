"""The reward formation-energy: values, references, speed's means, calculators and failures."""

import importlib.util
import json
import pickle
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from ase.calculators.calculator import Calculator, SCFError, all_changes
from ase.calculators.emt import EMT
from pymatgen.core import Lattice, Structure

from crystal_gym import load_collection
from crystal_gym.crystals.elements import SYMBOLS, atomic_number
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards import FormationEnergyReward, resolve_reward
from crystal_gym.rewards.energy.lru_cache import LRUCache
from crystal_gym.rewards.energy.models import ChgnetEnergy, resolve_energy_model
from crystal_gym.rewards.energy.references import (
    ReferenceEnergies,
    reference_crystal,
    shipped_elements,
)

FCC = [[0, 0, 0]]
ROCK_SALT = [[0, 0, 0], [0.5, 0.5, 0.5]]
ZINC_BLENDE = [[0, 0, 0], [0.25, 0.25, 0.25]]
FLUORITE = [[0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75]]
PEROVSKITE = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
# Measured lattice constant (Å) and standard enthalpy of formation at 298 K (kJ/mol), as tabulated
# in the CRC Handbook of Chemistry and Physics.
KNOWN = {
    "NaCl": (5.640, ROCK_SALT, "Na Cl", -411.2),
    "KCl": (6.293, ROCK_SALT, "K Cl", -436.5),
    "CsCl": (4.123, ROCK_SALT, "Cs Cl", -443.0),
    "LiF": (4.026, ROCK_SALT, "Li F", -616.0),
    "CaF2": (5.463, FLUORITE, "Ca F F", -1228.0),
    "MgO": (4.212, ROCK_SALT, "Mg O", -601.6),
    "CaO": (4.811, ROCK_SALT, "Ca O", -634.9),
    "SrTiO3": (3.905, PEROVSKITE, "Sr Ti O O O", -1672.4),
    "BaTiO3": (4.000, PEROVSKITE, "Ba Ti O O O", -1659.8),
    "ZnS": (5.410, ZINC_BLENDE, "Zn S", -206.0),
    "MgS": (5.200, ROCK_SALT, "Mg S", -346.0),
    "TiN": (4.240, ROCK_SALT, "Ti N", -337.7),
}
KJ_PER_MOL = 1 / 96.485


def fcc(a):
    """Primitive cell of the face-centred lattice."""
    return Lattice(a / 2 * (np.ones((3, 3)) - np.eye(3)))


def crystal(name):
    a, sites, elements, _ = KNOWN[name]
    simple = sites is PEROVSKITE or name == "CsCl"
    return Structure(Lattice.cubic(a) if simple else fcc(a), elements.split(), sites)


def judge(reward, structures):
    """Formation energies of structures as they are."""
    table = EpisodeTable(load_collection(list(structures)))
    return reward.on_finish(table, np.arange(len(table.true_elements)), table.true_elements)[1][
        "formation_energy"
    ]


@pytest.fixture(scope="module")
def chgnet():
    return FormationEnergyReward()


def test_known_solids_come_out_within_the_models_error(chgnet):
    ours = judge(chgnet, map(crystal, KNOWN))
    measured = [
        enthalpy * KJ_PER_MOL / len(elements.split()) for _, _, elements, enthalpy in KNOWN.values()
    ]
    assert np.abs(ours - measured).max() < 0.17
    assert np.abs(ours - measured).mean() < 0.09
    value = dict(zip(KNOWN, ours, strict=True))
    assert value["NaCl"] == pytest.approx(-2.13, abs=0.1)
    assert value["MgO"] == pytest.approx(-3.12, abs=0.1)
    assert value["SrTiO3"] == pytest.approx(-3.47, abs=0.15)
    assert value["CaF2"] < value["SrTiO3"] < value["MgO"] < value["NaCl"] < value["ZnS"] < 0


def test_the_reward_is_minus_the_formation_energy(chgnet, toy):
    table = EpisodeTable(toy)
    rows = np.arange(len(toy))
    paid, told = chgnet.on_finish(table, rows, table.true_elements)
    assert np.array_equal(paid, -told["formation_energy"])
    assert not told["failed"].any()


def test_batches_say_what_chgnet_says_of_one_structure(chgnet, toy):
    rng = np.random.default_rng(0)
    table = EpisodeTable(toy)
    rows = rng.permutation(np.repeat(np.arange(len(toy)), 2))
    codes = rng.integers(1, table.n_elements + 1, (len(rows), table.max_sites)).astype(np.int32)
    codes[table.blank[rows] < 0] = -1
    numbers = table.vocabulary.decode(codes)
    formation = chgnet.on_finish(table, rows, codes)[1]["formation_energy"]
    whole = formation + chgnet.references.of(numbers)
    for row, sites, energy in zip(rows[:8], numbers, whole, strict=False):
        structure = toy.skeleton(int(row)).fill(sites[: toy.n_sites[row]])
        with warnings.catch_warnings():
            # CHGNet warns of its own tensors, which it makes ready for forces.
            warnings.simplefilter("ignore", UserWarning)
            direct = chgnet.model.model.predict_structure(structure, task="e")["e"]
        assert energy == pytest.approx(float(direct), abs=1e-4)


def test_each_skeleton_is_converted_once_and_each_filling_judged_once(toy, monkeypatch):
    reward = FormationEnergyReward()
    table = EpisodeTable(toy)
    rows = np.array([5, 5, 7, 5])
    first = np.minimum(table.true_elements[rows], 1)
    conversions, passes = [], []
    convert, forward = reward.model.model.graph_converter.forward, reward.model.model.forward
    monkeypatch.setattr(
        reward.model.model.graph_converter,
        "forward",
        lambda structure: conversions.append(structure) or convert(structure),
    )
    monkeypatch.setattr(
        reward.model.model,
        "forward",
        lambda graphs, task: passes.append(len(graphs)) or forward(graphs, task=task),
    )
    once = reward.on_finish(table, rows, first)[0]
    assert once[0] == once[1] == once[3] != once[2]
    assert len(conversions) == 2
    assert sum(passes) == 2
    assert np.array_equal(reward.on_finish(table, rows, first)[0], once)
    assert sum(passes) == 2
    # The same skeleton in another collection, with other elements: nothing is converted.
    other = EpisodeTable(toy.take([7]), toy.vocabulary)
    again = reward.on_finish(other, np.array([0]), np.minimum(other.true, 1))[0]
    assert again == once[2]
    reward.on_finish(other, np.array([0]), np.where(other.true < 0, -1, 2))
    assert len(conversions) == 2


def test_the_longest_unused_answer_is_forgotten_first():
    memory = LRUCache(2)
    memory["a"], memory["b"] = 1, 2
    assert memory["a"] == 1
    memory["c"] = 3
    assert len(memory) == 2
    assert "b" not in memory
    assert [memory["a"], memory["c"]] == [1, 3]


def test_references_cover_chgnets_elements_and_the_embedded_collection():
    elements = set(shipped_elements())
    assert elements == set(SYMBOLS[:94]) - {"Po", "At", "Rn", "Fr", "Ra"}
    assert set(load_collection("goldschmidt").vocabulary.symbols) <= elements


@pytest.mark.parametrize("symbol", ["Sr", "Ti", "O", "N", "F", "S"])
def test_shipped_references_are_what_chgnet_says_of_their_crystals(chgnet, symbol):
    skeleton = reference_crystal(symbol)
    numbers = np.full(skeleton.n_sites, atomic_number(symbol))
    (energy,) = chgnet.model.energies([(skeleton, numbers)])
    assert energy == pytest.approx(shipped_elements()[symbol]["energy"], abs=2e-3)


def test_elements_in_their_own_crystals_have_no_formation_energy(chgnet):
    crystals = [
        reference_crystal(symbol).fill([symbol] * reference_crystal(symbol).n_sites)
        for symbol in ("Cu", "Na", "N")
    ]
    assert judge(chgnet, crystals) == pytest.approx(0, abs=2e-3)


def test_given_references_go_before_the_shipped_ones(chgnet):
    shifted = FormationEnergyReward(references={"Na": shipped_elements()["Na"]["energy"] - 1})
    salt = [crystal("NaCl")]
    assert judge(shifted, salt) == pytest.approx(judge(chgnet, salt) + 0.5, abs=1e-5)
    with pytest.raises(CrystalGymError, match=r"reference energy of Na .* finite number, not nan"):
        FormationEnergyReward(references={"Na": float("nan")})
    with pytest.raises(CrystalGymError, match="an element symbol such as 'Ti', got 'Nq'"):
        FormationEnergyReward(references={"Nq": 1.0})


def test_elements_that_chgnet_does_not_know_are_refused_at_once(toy):
    symbols = (*toy.vocabulary.symbols, "Po", "Rn")
    with pytest.raises(CrystalGymError, match="CHGNet does not know the elements Po, Rn"):
        gym.make(
            "CrystalSkeleton-v0", collection=toy, vocabulary=symbols, reward="formation-energy"
        )


def test_sites_out_of_reach_fail_alone(chgnet):
    far = Structure(Lattice.cubic(9.0), ["Na"], FCC)
    table = EpisodeTable(load_collection([crystal("NaCl"), far]))
    paid, told = chgnet.on_finish(table, np.arange(2), table.true_elements)
    assert told["failed"].tolist() == [0, 1]
    assert paid[1] == -10
    assert paid[0] == pytest.approx(2.1, abs=0.1)


def test_chgnet_greets_nobody(capsys):
    assert ChgnetEnergy().model.version == "0.3.0"
    assert capsys.readouterr().out == ""


ALLOY = Structure(Lattice.cubic(2.887), ["Ni", "Al"], ROCK_SALT)


def test_calculators_by_name_by_place_and_by_object_agree():
    rewards = [
        FormationEnergyReward("emt"),
        FormationEnergyReward("ase.calculators.emt:EMT", {"asap_cutoff": False}),
        FormationEnergyReward(EMT()),
        resolve_reward({"formation-energy": {"calculator": "emt"}}),
    ]
    values = [judge(reward, [ALLOY])[0] for reward in rewards]
    assert values == pytest.approx([values[0]] * 4)
    assert 0 < values[0] < 1


def test_references_of_other_calculators_are_their_own_minima():
    model = resolve_energy_model("emt")
    references = ReferenceEnergies(model)
    for symbol, a in (("Cu", 3.597), ("Al", 3.995)):
        # The lattice constants of ASE's EMT, in which its energy is close to 0.
        value = judge(
            FormationEnergyReward(EMT()),
            [Structure(fcc(a), [symbol], FCC)],
        )
        assert value == pytest.approx(0, abs=2e-3)
        assert abs(references.of(np.array([[atomic_number(symbol)]]))[0]) < 0.01


def test_the_environment_can_be_made_again_from_its_spec():
    env = gym.make(
        "CrystalSkeleton-v0",
        split="test",
        reward={"formation-energy": {"calculator": "emt", "references": {"Cu": 0.0}}},
    )
    assert env.spec is not None
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.reward.model.name == "emt"
    assert json.loads(env.spec.to_json())["kwargs"]["reward"]["formation-energy"]


def test_the_reward_travels_to_other_processes(toy):
    reward = FormationEnergyReward()
    table = EpisodeTable(toy)
    row = np.array([5])
    before = reward.on_finish(table, row, table.true_elements[row])[0]
    copy = pickle.loads(pickle.dumps(reward))  # noqa: S301 - it was made here
    assert copy.on_finish(table, row, table.true_elements[row])[0] == before


class Moody(Calculator):
    """Converges for aluminium alone; else raises, or gives no number."""

    implemented_properties = ["energy"]  # noqa: RUF012 - as ASE declares it

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        symbols = set(atoms.get_chemical_symbols())
        if symbols == {"Ni"}:
            raise SCFError("the density oscillates")
        mixed = np.inf if str(atoms.symbols) == "NiAl" else np.nan
        self.results["energy"] = len(atoms) * (-4.0 if symbols == {"Al"} else mixed)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_vector_survives_calculations_that_fail(mode, caplog):
    reward = FormationEnergyReward(Moody(), references={"Al": -3.0, "Ni": -5.0}, fallback=-7.0)
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
    _, paid, terminated, _, infos = envs.step(second)
    infos = infos.get("final_info", infos)
    assert terminated.all()
    aluminium = envs.unwrapped.table.vocabulary.symbols.index("Al")
    good = (first == aluminium) & (second == aluminium)
    assert 100 < good.sum() < 500
    assert np.array_equal(infos["failed"], ~good)
    assert (infos["failures"] == (~good).sum()).all()
    assert (paid[good] == 1.0).all()
    assert (paid[~good] == -7.0).all()
    assert not np.isfinite(infos["formation_energy"][~good]).any()
    _, paid, *_ = envs.step(first)
    assert np.isfinite(paid).all()
    # Each of the three other fillings is tried once, and the first reasons are logged.
    assert "SCFError: the density oscillates" in caplog.text
    assert "is paid in its place" in caplog.text
    assert len(caplog.records) == 2


def test_a_reference_that_cannot_be_computed_is_told():
    with pytest.raises(CrystalGymError, match="'emt' gives no energy of the element Ca"):
        judge(FormationEnergyReward("emt"), [crystal("CaO")])
    with pytest.raises(CrystalGymError, match="no reference crystal of Po; give its energy"):
        ReferenceEnergies(resolve_energy_model("emt")).require([84])


def test_a_network_that_cannot_be_loaded_is_no_failure_of_a_crystal(toy, monkeypatch):
    def absent(device: str) -> None:
        raise OSError("no weights")

    monkeypatch.setattr("crystal_gym.rewards.energy.models.load_chgnet", absent)
    model = resolve_energy_model("chgnet")
    with pytest.raises(OSError, match="no weights"):
        model.energies([(toy.skeleton(0), toy.atomic_numbers[0, : toy.n_sites[0]])])


def test_a_device_that_is_not_there_is_told_at_the_first_crystal(toy):
    model = resolve_energy_model("chgnet", {"device": "cuda:99"})
    with pytest.raises(CrystalGymError, match="cannot run on the device 'cuda:99'"):
        model.energies([(toy.skeleton(0), toy.atomic_numbers[0, : toy.n_sites[0]])])


def test_wrong_calculators_are_told():
    with pytest.raises(UnknownNameError, match=r"calculator 'chgnett'. Did you mean 'chgnet'"):
        FormationEnergyReward("chgnett")
    with pytest.raises(UnknownNameError, match="Unknown calculator 'calculator'"):
        FormationEnergyReward("calculator")
    for wrong in (EMT, 3, None):
        with pytest.raises(CrystalGymError, match="A calculator is a name"):
            FormationEnergyReward(wrong)
    with pytest.raises(CrystalGymError, match="has no class 'EMTT'"):
        FormationEnergyReward("ase.calculators.emt:EMTT")
    with pytest.raises(CrystalGymError, match="needs the package 'not_there'"):
        FormationEnergyReward("not_there:EMT")
    with pytest.raises(CrystalGymError, match="no class of ASE calculators"):
        FormationEnergyReward("os:system")
    with pytest.raises(CrystalGymError, match=r"cannot be made with the settings .*'color'"):
        FormationEnergyReward("chgnet", {"color": 1})
    for strange in ("gpu", "nowhere:0"):
        with pytest.raises(CrystalGymError, match=f"cannot run on the device '{strange}'"):
            FormationEnergyReward("chgnet", {"device": strange})
    for strange in (":EMT", ".emt:EMT", "ase.calculators.emt:"):
        with pytest.raises(CrystalGymError, match="written 'module:Class'"):
            FormationEnergyReward(strange)
    for strange in ([1], "x"):
        with pytest.raises(CrystalGymError, match="mapping of names to values"):
            FormationEnergyReward("emt", strange)
        with pytest.raises(CrystalGymError, match="mapping of symbols"):
            FormationEnergyReward("emt", references=strange)
    with pytest.raises(CrystalGymError, match="given as an object has its settings"):
        FormationEnergyReward(EMT(), {"asap_cutoff": True})
    with pytest.raises(CrystalGymError, match="fallback of a reward is a finite number"):
        FormationEnergyReward("emt", fallback=float("nan"))


def test_a_missing_package_is_told_with_its_cure(monkeypatch):
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
