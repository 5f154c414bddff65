"""Phase diagrams from files of a user."""

import json

import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry

from crystal_gym.errors import CrystalGymError, DamagedFileError, MissingDataError
from crystal_gym.rewards.energy.phase_diagram import UserPhaseDiagram

ENERGIES = {"Na": -1.0, "Cl": -2.0, "NaCl": -8.0, "NaCl3": -10.0}  # eV per formula unit


def entries(kind):
    return [kind(Composition(formula), energy) for formula, energy in ENERGIES.items()]


@pytest.fixture
def salt():
    return Structure(Lattice.cubic(3.0), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def write(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("form", ["diagram", "entries", "computed"])
def test_energies_are_those_of_pymatgen(tmp_path, salt, form):
    diagram = PhaseDiagram(entries(PDEntry))
    content = {
        "diagram": json.loads(diagram.to_json()),
        "entries": [entry.as_dict() for entry in entries(PDEntry)],
        "computed": [entry.as_dict() for entry in entries(ComputedEntry)],
    }[form]
    read = UserPhaseDiagram(write(tmp_path / "hull.json", content))
    assert read.symbols == ["Cl", "Na"]
    for energy in (-3.5, -4.0, -4.25):
        expected = diagram.get_e_above_hull(
            PDEntry(salt.composition, 2 * energy), allow_negative=True
        )
        assert read.energy_above_hull(salt, energy) == pytest.approx(expected)
    assert read.energy_above_hull(salt, -4.0) == pytest.approx(0.0)


def test_corrections_of_entries_are_added(tmp_path, salt):
    corrected = entries(ComputedEntry)
    corrected[2] = ComputedEntry(Composition("NaCl"), -7.0, correction=-1.0)
    path = write(tmp_path / "hull.json", [entry.as_dict() for entry in corrected])
    assert UserPhaseDiagram(path).energy_above_hull(salt, -4.0) == pytest.approx(0.0)


def test_missing_elements_are_named(tmp_path):
    path = write(tmp_path / "hull.json", [entry.as_dict() for entry in entries(PDEntry)])
    with pytest.raises(MissingDataError, match=r"with K, Br, got one of Cl, Na .*--elements Cl,Na"):
        UserPhaseDiagram(path).check_elements(["Na", "Br", "K"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON"),
        ("{}", "without entries"),
        ("[]", "without entries"),
        ("3", "without entries"),
        ("[[1]]", "entry 0"),
        ('[{"composition": {"Na": 1}}]', "entry 0.*KeyError"),
        ('[{"composition": "Xx", "energy": 1}]', "entry 0"),
        ('[{"composition": {"Na": 1}, "energy": NaN}]', "finite energy.*entry 0"),
        ('[{"composition": {"Na": 1, "Cl": 1}, "energy": -8}]', "all pure elements"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "hull.json"
    path.write_text(content)
    with pytest.raises(DamagedFileError, match=message):
        UserPhaseDiagram(path)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(CrystalGymError, match="no such file"):
        UserPhaseDiagram(tmp_path / "hull.json")


def test_classes_in_the_file_are_not_imported(tmp_path):
    record = {"composition": {"Na": 1}, "energy": -1.0, "@module": "antigravity", "@class": "x"}
    assert UserPhaseDiagram(write(tmp_path / "hull.json", [record])).symbols == ["Na"]
