"""The script that computes the reference energies of the elements, with ASE's EMT for CHGNet."""

import json
import subprocess
import sys
from pathlib import Path

import compute_reference_energies
import numpy as np
import pytest
from ase.calculators.emt import EMT
from compute_reference_energies import PROTOTYPES, SIMPLE, initial_crystal, main, relax

from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards.energy.reference_crystals import REFERENCES_FILE, reference_elements

SCRIPT = Path(compute_reference_energies.__file__)
# Equilibrium lattice constants of ASE's EMT in Å; the energies at them are close to 0.
LATTICE_CONSTANTS = {"Al": 3.995, "Cu": 3.597}


@pytest.fixture
def emt(monkeypatch):
    """Use EMT, which is fast, in place of CHGNet."""
    monkeypatch.setattr(compute_reference_energies, "make_ase_calculator", EMT)


def test_main_relaxes_the_elements_and_writes_the_file(emt, tmp_path, capsys):
    output = tmp_path / "references.json"
    main(["--elements", "Al", "Cu", "--output", str(output)])
    content = json.loads(output.read_text())
    packaged = json.loads(REFERENCES_FILE.read_text())
    assert content.keys() == packaged.keys()
    assert content["command"] == packaged["command"] == f"python tools/{SCRIPT.name}"
    assert list(content["elements"]) == ["Al", "Cu"]
    for symbol, entry in content["elements"].items():
        assert entry.keys() == packaged["elements"][symbol].keys()
        assert entry["energy"] == pytest.approx(0, abs=0.01)
        assert entry["origin"] == "ASE's table of lattices"
        # The primitive cell of the face-centered cubic lattice.
        edge = LATTICE_CONSTANTS[symbol] / np.sqrt(2)
        assert entry["parameters"] == pytest.approx([edge] * 3 + [60] * 3, abs=0.02)
        assert (np.array(entry["frac_coords"]) % 1 == 0).all()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["Al", "Cu"]


def test_relaxation_finds_the_lattice_constant_and_keeps_the_initial_crystal():
    initial, _ = initial_crystal("Al")
    before = initial.cell.cellpar()
    relaxed = relax(initial, EMT())
    assert np.array_equal(initial.cell.cellpar(), before)
    edge = LATTICE_CONSTANTS["Al"] / np.sqrt(2)
    assert relaxed.cell.cellpar()[:3] == pytest.approx(edge, abs=0.01)
    assert relaxed.get_potential_energy() <= EMT().get_potential_energy(initial)


def test_prototypes_are_scaled_to_the_neighbor_distance():
    atoms, origin = initial_crystal("H")
    assert set(atoms.symbols) == {"H"}
    distances = atoms.get_all_distances(mic=True)
    assert distances[distances > 0].min() == pytest.approx(0.74, abs=1e-6)
    assert origin == "AFLOW A_cP8_205_c (N2), neighbors at 0.74 Å"


def test_packaged_file_has_all_elements_and_their_origins():
    assert not set(PROTOTYPES) & set(SIMPLE)
    assert set(reference_elements()) == {*PROTOTYPES, *SIMPLE}
    for symbol in ("H", "Cu", "He", "O"):
        assert reference_elements()[symbol]["origin"] == initial_crystal(symbol)[1]


def test_unknown_elements_are_rejected(emt, tmp_path):
    with pytest.raises(CrystalGymError, match="known crystal, got 'Po'"):
        initial_crystal("Po")
    output = tmp_path / "references.json"
    with pytest.raises(SystemExit, match="known crystal, got 'Po'"):
        main(["--elements", "Po", "--output", str(output)])
    assert not output.exists()


def test_selected_elements_need_an_output_file(emt, capsys):
    with pytest.raises(SystemExit):
        main(["--elements", "Cu"])
    assert "--elements needs --output" in capsys.readouterr().err


def test_script_can_be_run_by_its_path():
    command = [sys.executable, str(SCRIPT), "--help"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "Compute the reference energies" in result.stdout
