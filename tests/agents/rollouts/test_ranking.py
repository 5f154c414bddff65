"""The order of fillings by energy, and the comparison with training crystals."""

import json

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PDEntry
from pymatgen.core import Composition, Lattice, Structure

from crystal_agents import load_policy
from crystal_agents.rollouts.ranking import EnergyRanking, RankedFilling, compare_with_training
from crystal_gym.collections.known_crystals import KnownCrystals
from crystal_gym.collections.structures import collection_from_structures
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.errors import CrystalGymError, MissingDataError
from crystal_gym.rewards.energy.references import ReferenceEnergies


@pytest.fixture(scope="module")
def fillings():
    """Return all assignments of Sr, Ti and O to the sites of a perovskite."""
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    perovskite = Structure(Lattice.cubic(3.905), ["Sr", "Ti", "O", "O", "O"], sites)
    return load_policy("goldschmidt/egnn").fill(perovskite, composition="SrTiO3", beam=4)


def hull(path, energies):
    records = [PDEntry(Composition(name), e).as_dict() for name, e in energies.items()]
    path.write_text(json.dumps(records))
    return path


def test_the_lowest_formation_energy_is_first(fillings):
    ranking = EnergyRanking()
    ranking.check(fillings)
    ranked = ranking(fillings)
    energies = [filling.formation_energy for filling in ranked]
    assert energies == sorted(energies)
    # CHGNet's energy of cubic SrTiO3 is -8.418 eV/atom.
    numbers = np.array([[38, 22, 8, 8, 8]])
    references = ReferenceEnergies(ranking.model).mean_over_atoms(numbers)
    assert energies[0] == pytest.approx(-8.418 - references[0], abs=0.01)
    assert ranked[0].energy_above_hull is ranked[0].converged is ranked[0].relaxed is None


def test_energies_above_the_hull_order_the_fillings(fillings, tmp_path):
    energies = {"Sr": -1.69, "Ti": -7.9, "O": -4.95, "SrTiO3": 5 * -8.0}
    ranking = EnergyRanking(hull(tmp_path / "hull.json", energies))
    ranked = ranking(fillings)
    above = [filling.energy_above_hull for filling in ranked]
    assert above == sorted(above)
    assert above[0] == pytest.approx(-8.418 + 8.0, abs=0.01)


def test_a_phase_diagram_without_an_element_is_refused_before_energies(fillings, tmp_path):
    ranking = EnergyRanking(hull(tmp_path / "hull.json", {"Sr": -1.0, "O": -4.0}))
    with pytest.raises(MissingDataError, match="phase diagram with Ti"):
        ranking.check(fillings)


def test_relaxed_fillings_have_lower_energies_and_their_own_cells(fillings):
    (unrelaxed,) = EnergyRanking()(fillings[:1])
    calls = []
    (relaxed,) = EnergyRanking(relax_steps=3)(fillings[:1], calls.append)
    assert calls == [1]
    assert relaxed.formation_energy <= unrelaxed.formation_energy + 1e-6
    assert relaxed.structure is relaxed.relaxed
    assert relaxed.structure.composition == relaxed.filled.structure.composition
    assert isinstance(relaxed.converged, bool)


def test_fillings_are_compared_with_training_crystals(fillings):
    crystal = fillings[0].structure
    other = Structure(crystal.lattice, ["Ba", "Ti", "O", "O", "O"], crystal.frac_coords)
    for known, expected in ((crystal, "crystal"), (other, "no")):
        training = KnownCrystals(collection_from_structures([known]))
        (found,) = compare_with_training([RankedFilling(fillings[0])], training)
        assert found.in_training == expected
    swapped = fillings[1]
    training = KnownCrystals(collection_from_structures([crystal]))
    (found,) = compare_with_training([RankedFilling(swapped)], training)
    assert found.in_training == "composition"


def test_a_skeleton_has_no_primitive_cell(fillings):
    skeleton = Skeleton.from_structure(fillings[0].structure)
    with pytest.raises(CrystalGymError, match="got a Skeleton"):
        load_policy("goldschmidt/egnn").fill(skeleton, primitive=True)
