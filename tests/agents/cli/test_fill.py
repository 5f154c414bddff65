"""The command ``fill``: tables, files and errors."""

import csv

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from small_policies import PEROVSKITE

from crystal_agents.cli.kept_sites import parse_sites
from crystal_gym import load_collection
from crystal_gym.errors import CrystalGymError
from crystal_gym.formats import read_structure


@pytest.fixture
def cif(tmp_path):
    structure = Structure(Lattice.cubic(3.905), ["Sr", "Ti", "O", "O", "O"], PEROVSKITE)
    path = tmp_path / "own.cif"
    structure.to(filename=str(path))
    return path


POLICY = ("--policy", "goldschmidt/egnn")


def test_fillings_are_printed_and_written(run, cif, tmp_path):
    output = tmp_path / "filled"
    code, out, _ = run(
        "fill", cif, *POLICY, "--composition", "BaTiO3", "--beam", 4, "--output", output
    )
    assert code == 0
    assert "4 fillings" in out
    assert "BaTiO3" in out
    with (output / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"own-{rank}.cif" for rank in range(1, 5)]
    scores = [float(row["log_probability"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    for row in rows:
        structure = read_structure(output / row["file"]).structure
        assert structure.composition.reduced_formula == "BaTiO3"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["filled", "own.cif"]

    code, _, err = run("fill", cif, *POLICY, "--output", output)
    assert code == 2
    assert "which exists" in err
    code, *_ = run("fill", cif, *POLICY, "--output", output, "--overwrite", "--format", "poscar")
    assert code == 0
    assert sorted(path.name for path in output.iterdir()) == ["own-1.vasp", "scores.csv"]


@pytest.mark.parametrize("kind", ["poscar", "extxyz"])
def test_written_files_can_be_read_again(run, cif, tmp_path, kind):
    output = tmp_path / "filled"
    options = ("--keep-elements", "O", "--samples", 3, "--format", kind, "--output", output)
    assert run("fill", cif, *POLICY, *options)[0] == 0
    files = [path for path in output.iterdir() if path.suffix != ".csv"]
    assert files
    for path in files:
        structure = read_structure(path).structure
        assert [site.specie.symbol for site in structure].count("O") >= 3


def test_kept_sites_and_excluded_elements(run, cif):
    options = ("--keep", "1-4", "--exclude", "Sr,Ba", "--mask", "charge-neutral", "--beam", 5)
    code, out, _ = run("fill", cif, *POLICY, *options)
    assert code == 0
    assert out.count(" Ti O O O ") == 5
    assert " Sr " not in out


def test_several_files_with_one_name_are_numbered(run, cif, tmp_path):
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "own.cif"
    other.write_bytes(cif.read_bytes())
    output = tmp_path / "filled"
    assert run("fill", cif, other, *POLICY, "--output", output)[0] == 0
    names = sorted(path.name for path in output.iterdir())
    assert names == ["own-0-1.cif", "own-1-1.cif", "scores.csv"]


def test_fillings_are_ranked_by_energy(run, cif):
    code, out, _ = run(
        "fill", cif, *POLICY, "--composition", "SrTiO3", "--beam", 3, "--rank", "energy"
    )
    assert code == 0
    lines = [line for line in out.splitlines() if "SrTiO3" in line]
    energies = [float(line.split("│")[-2]) for line in lines]
    assert len(energies) == 3
    assert energies == sorted(energies)


def test_relaxed_crystals_and_training_crystals_are_reported(run, tmp_path):
    collection = load_collection("goldschmidt")
    row = int(collection.in_split("train")[0])
    collection.structure(row).to(filename=str(tmp_path / "known.cif"))
    output = tmp_path / "filled"
    options = ("--keep", "0-3", "--composition", collection.formula(row), "--rank", "energy")
    relaxation = ("--relax", "--relax-steps", 2, "--compare-training", "--output", output)
    code, out, _ = run("fill", tmp_path / "known.cif", *POLICY, *options, *relaxation)
    assert code == 0
    assert "in training" in out
    with (output / "scores.csv").open() as file:
        (scores,) = csv.DictReader(file)
    assert scores["in_training"] == "crystal"
    assert scores["relaxation_converged"] in ("0", "1")
    relaxed = read_structure(output / scores["file"]).structure
    given = read_structure(tmp_path / "known.cif").structure
    assert relaxed.composition == given.composition
    assert relaxed.volume != pytest.approx(given.volume, rel=1e-6)


def test_the_primitive_cell_is_filled(run, tmp_path):
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    salt.to(filename=str(tmp_path / "salt.cif"))
    output = tmp_path / "filled"
    options = ("--primitive", "--keep-elements", "Cl", "--output", output)
    assert run("fill", tmp_path / "salt.cif", "--policy", "mp-20/mpnn", *options)[0] == 0
    filled = read_structure(output / "salt-1.cif").structure
    assert len(filled) == 2
    assert "Cl" in [site.specie.symbol for site in filled]


def test_a_cell_beyond_the_memory_limit_is_refused(run, tmp_path):
    # pymatgen needs 15 seconds to write a cell of this size.
    sites = [f"{i / 21:.9f} {j / 20} {k / 20}" for i, j, k in np.ndindex(21, 20, 20)]
    cell = ["large", "1.0", "63 0 0", "0 60 0", "0 0 60", "Fe", str(len(sites)), "Direct", *sites]
    (tmp_path / "large.vasp").write_text("\n".join(cell) + "\n")
    code, _, err = run("fill", tmp_path / "large.vasp", *POLICY)
    assert code == 2
    assert "at most 8,192 sites, got 8,400" in " ".join(err.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--composition", "SrTiO4"), "fits a cell of 5 sites"),
        (("--elements", "Sr,Xx"), "Xx"),
        (("--keep", "9"), "sites from 0 to 4"),
        (("--keep", "a"), "Expected --keep with site numbers"),
        (("--beam", 0), "Expected beam to be at least 1"),
        (("--policy", "none/egnn"), "none/egnn"),
        (("--relax",), "Expected --rank energy with --relax"),
        (("--phase-diagram", "hull.json"), "Expected --rank energy with --phase-diagram"),
        (("--rank", "energy", "--phase-diagram", "none.json"), "no such file"),
        (("--rank", "energy", "--relax", "--relax-steps", 0), "--relax-steps of at least 1"),
        (("--primitive", "--keep", "0"), "Expected no numbers of sites with primitive=True"),
    ],
)
def test_invalid_options_are_rejected_and_nothing_is_written(run, cif, tmp_path, options, message):
    output = tmp_path / "filled"
    code, _, err = run("fill", cif, *POLICY, *options, "--output", output)
    assert code == 2
    assert message in " ".join(err.split())
    assert not output.exists()


def test_all_files_are_read_first(run, cif, tmp_path):
    broken = tmp_path / "broken.cif"
    broken.write_text("data_x\n_cell_length_a 4\n")
    code, _, err = run("fill", cif, broken, *POLICY, "--output", tmp_path / "filled")
    assert code == 2
    assert "broken.cif" in err
    assert not (tmp_path / "filled").exists()


def test_a_folder_with_other_files_is_not_replaced(run, cif, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "thesis.tex").write_text("precious")
    code, _, err = run("fill", cif, *POLICY, "--output", folder, "--overwrite")
    assert code == 2
    assert "other content" in err
    assert (folder / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize(
    ("text", "sites"), [("", []), ("0-3", [0, 1, 2, 3]), ("5, 1-2", [5, 1, 2]), ("7", [7])]
)
def test_sites_are_parsed(text, sites):
    assert parse_sites(text, "--keep") == sites


@pytest.mark.parametrize("text", ["-1", "1-", "1.5", "a-b", "1--2"])
def test_other_texts_are_no_sites(text):
    with pytest.raises(CrystalGymError, match="--keep with site numbers"):
        parse_sites(text, "--keep")
