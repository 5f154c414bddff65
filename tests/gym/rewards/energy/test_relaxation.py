"""Relaxations with an ASE calculator."""

import pytest
from ase.calculators.emt import EMT
from pymatgen.core import Lattice, Structure

from crystal_gym.rewards.energy.relaxation import relax


@pytest.fixture
def copper():
    """Return copper with one displaced atom, in a cell that is 3 % too large."""
    structure = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.70), ["Cu"], [[0, 0, 0]])
    structure.translate_sites([0], [0.02, 0, 0])
    return structure


def test_copper_relaxes_to_the_lattice_constant_of_emt(copper):
    found = relax(copper, EMT(), 200)
    assert found.converged
    # The lattice constant of EMT's copper is 3.59 Å (ASE's tutorials).
    assert found.structure.volume ** (1 / 3) == pytest.approx(3.59, abs=0.01)
    assert found.energy == pytest.approx(-0.005, abs=0.01)


def test_too_few_steps_are_reported(copper):
    found = relax(copper, EMT(), 2)
    assert not found.converged
    assert len(found.structure) == len(copper)
