"""Reference energies of the elements."""

import numpy as np
import pytest
from ase.calculators.emt import EMT
from pymatgen.core import Structure
from solids import FCC, fcc_lattice, formation_energies, make_solid

from crystal_gym import load_collection
from crystal_gym.crystals.elements import SYMBOLS, atomic_number
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards import FormationEnergyReward
from crystal_gym.rewards.energy.models import resolve_energy_model
from crystal_gym.rewards.energy.reference_crystals import reference_crystal, reference_elements
from crystal_gym.rewards.energy.references import ReferenceEnergies


@pytest.fixture(scope="module")
def chgnet():
    return FormationEnergyReward()


def test_references_cover_the_elements_of_chgnet_and_of_the_packaged_collection():
    elements = set(reference_elements())
    assert elements == set(SYMBOLS[:94]) - {"Po", "At", "Rn", "Fr", "Ra"}
    assert set(load_collection("goldschmidt").vocabulary.symbols) <= elements


@pytest.mark.parametrize("symbol", ["Sr", "Ti", "O", "N", "F", "S"])
def test_packaged_references_are_energies_of_their_crystals(chgnet, symbol):
    skeleton = reference_crystal(symbol)
    numbers = np.full(skeleton.n_sites, atomic_number(symbol))
    (energy,) = chgnet.model.energies([(skeleton, numbers)])
    assert energy == pytest.approx(reference_elements()[symbol]["energy"], abs=2e-3)


def test_elements_in_their_reference_crystals_have_zero_formation_energy(chgnet):
    crystals = [
        reference_crystal(symbol).fill([symbol] * reference_crystal(symbol).n_sites)
        for symbol in ("Cu", "Na", "N")
    ]
    assert formation_energies(chgnet, crystals) == pytest.approx(0, abs=2e-3)


def test_given_references_replace_the_packaged_ones(chgnet):
    shifted = FormationEnergyReward(references={"Na": reference_elements()["Na"]["energy"] - 1})
    salt = [make_solid("NaCl")]
    expected = formation_energies(chgnet, salt) + 0.5
    assert formation_energies(shifted, salt) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(CrystalGymError, match=r"reference energy of Na .* finite number, got nan"):
        FormationEnergyReward(references={"Na": float("nan")})
    with pytest.raises(CrystalGymError, match=r"Expected an element symbol .* got 'Nq'"):
        FormationEnergyReward(references={"Nq": 1.0})


def test_given_references_extend_the_packaged_ones():
    references = ReferenceEnergies(resolve_energy_model("chgnet"), {"Po": -3.0})
    references.check_supported([84])
    assert references.mean_over_atoms(np.array([[84, 0]])) == -3.0


def test_computed_references_are_minima_of_the_calculator():
    references = ReferenceEnergies(resolve_energy_model("emt"))
    # Lattice constants of ASE's EMT, at which its energy is close to 0.
    for symbol, a in (("Cu", 3.597), ("Al", 3.995)):
        value = formation_energies(
            FormationEnergyReward(EMT()), [Structure(fcc_lattice(a), [symbol], FCC)]
        )
        assert value == pytest.approx(0, abs=2e-3)
        assert abs(references.mean_over_atoms(np.array([[atomic_number(symbol)]]))[0]) < 0.01


def test_references_that_cannot_be_computed_are_errors():
    with pytest.raises(CrystalGymError, match="'emt' gives no energy of the element Ca"):
        formation_energies(FormationEnergyReward("emt"), [make_solid("CaO")])
    references = ReferenceEnergies(resolve_energy_model("emt"))
    references.check_supported([84])
    with pytest.raises(CrystalGymError, match=r"no reference crystal of Po\. Pass its energy"):
        references.mean_over_atoms(np.array([[84]]))
