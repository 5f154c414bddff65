"""Test collections from folders and lists of CIF files."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from crystal_gym.collections import load_collection
from crystal_gym.collections.cif_folder import load_cif_folder
from crystal_gym.crystals.skeleton import split_structure
from crystal_gym.errors import BadCrystalError, CrystalGymError, DamagedFileError, MissingDataError

pytestmark = pytest.mark.usefixtures("cache")

SALT = Structure(Lattice.tetragonal(4, 5), ["Na", "Cl"], [[0.5, 0.5, 0.5], [0, 0, 0]])
METAL = Structure(Lattice.cubic(3), ["Fe"], [[0, 0, 0]])


def write(path, structure):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(str(CifWriter(structure)))


def test_folder_of_cif_files_is_a_collection(tmp_path):
    folder = tmp_path / "two.crystals"
    write(folder / "salt.cif", SALT)
    write(folder / "iron.cif", METAL)
    (folder / "notes.txt").write_text("not a crystal")
    collection = load_collection(folder)
    assert collection.name == "two-crystals-37a7582b"
    assert collection.ids.tolist() == ["iron", "salt"]
    assert collection.splits.tolist() == ["train", "train"]
    skeleton, numbers = split_structure(SALT)
    assert collection.skeleton("salt") == skeleton
    assert collection.atomic_numbers.tolist() == [[26, 0], numbers.tolist()]


def test_subfolders_define_the_splits(tmp_path):
    write(tmp_path / "a.cif", METAL)
    write(tmp_path / "train" / "b.cif", METAL)
    write(tmp_path / "val" / "c.cif", SALT)
    write(tmp_path / "test" / "d.cif", SALT)
    collection = load_cif_folder(tmp_path)
    assert collection.ids.tolist() == ["a", "b", "c", "d"]
    assert collection.splits.tolist() == ["train", "train", "val", "test"]


def test_changed_file_is_prepared_again(tmp_path):
    write(tmp_path / "a.cif", METAL)
    assert load_cif_folder(tmp_path).n_sites.tolist() == [1]
    write(tmp_path / "a.cif", SALT)
    assert load_cif_folder(tmp_path).n_sites.tolist() == [2]


def test_symmetry_operations_of_a_cif_are_applied(tmp_path):
    rock_salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    (tmp_path / "salt.cif").write_text(str(CifWriter(rock_salt, symprec=0.01)))
    collection = load_cif_folder(tmp_path)
    assert collection.n_sites.tolist() == [8]
    assert (np.bincount(collection.skeleton(0).edges[:, 0]) == 6).all()


def test_errors_give_the_bad_file(tmp_path):
    write(tmp_path / "good.cif", METAL)
    bad = tmp_path / "val" / "bad.cif"
    bad.parent.mkdir()
    bad.write_text("data_nothing\n")
    with pytest.raises(
        BadCrystalError, match=r"val/bad\.cif \(crystal 'bad'\): Expected a readable CIF"
    ):
        load_cif_folder(tmp_path)
    write(bad, Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]]))
    with pytest.raises(BadCrystalError, match=r"val/bad\.cif .*Site 0 is disordered"):
        load_cif_folder(tmp_path)
    write(bad, Structure(Lattice.cubic(4), ["Fe", "Ni"], [[0, 0, 0], [0.05, 0, 0]]))
    with pytest.raises(BadCrystalError, match=r"val/bad\.cif .*overlap"):
        load_cif_folder(tmp_path)
    coinciding = str(CifWriter(SALT)).replace("  0.00000000" * 3, "  0.50000000" * 3)
    bad.write_text(coinciding)
    with pytest.raises(
        BadCrystalError, match=r"val/bad\.cif .*Expected a readable CIF.*occupancies"
    ):
        load_cif_folder(tmp_path)
    bad.write_text(f"{CifWriter(SALT)}\n{CifWriter(METAL)}")
    with pytest.raises(BadCrystalError, match=r"val/bad\.cif .*a CIF with one crystal, got 2"):
        load_cif_folder(tmp_path)
    write(bad, SALT)
    with pytest.raises(BadCrystalError, match=r"val/bad\.cif .*at most 1 sites, got 2"):
        load_cif_folder(tmp_path, max_sites=1)
    bad.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DamagedFileError, match=r"bad\.cif cannot be read"):
        load_cif_folder(tmp_path)


def test_repeated_file_name_raises_an_error(tmp_path):
    write(tmp_path / "a.cif", METAL)
    write(tmp_path / "test" / "a.cif", SALT)
    with pytest.raises(CrystalGymError, match=r"a\.cif and test/a\.cif have the same name"):
        load_cif_folder(tmp_path)


def test_list_of_files_and_single_file_are_collections(tmp_path):
    write(tmp_path / "one" / "salt.cif", SALT)
    write(tmp_path / "other" / "iron.cif", METAL)
    files = [tmp_path / "one" / "salt.cif", str(tmp_path / "other" / "iron.cif")]
    collection = load_collection(files)
    assert collection.name == "crystals"
    assert collection.ids.tolist() == ["salt", "iron"]
    assert collection.splits.tolist() == ["train", "train"]
    assert collection.n_sites.tolist() == [2, 1]
    env = gym.make("CrystalSkeleton-v0", collection=[str(file) for file in files])
    copy = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert copy.unwrapped.table.collection.ids.tolist() == ["salt", "iron"]
    single = load_collection(files[0])
    assert single.name == "salt"
    assert single.ids.tolist() == ["salt"]
    with pytest.raises(CrystalGymError, match="have the same name"):
        load_collection([files[0], files[0]])
    with pytest.raises(DamagedFileError, match=r"absent\.cif cannot be read"):
        load_collection([files[0], tmp_path / "absent.cif"])
    with pytest.raises(CrystalGymError, match="Expected a pymatgen Structure at position 1"):
        load_collection([SALT, files[0]])
    with pytest.raises(CrystalGymError, match="Expected the name or the path of a collection"):
        load_collection(7)


def test_upper_case_extensions_are_accepted(tmp_path):
    write(tmp_path / "all" / "SALT.CIF", SALT)
    write(tmp_path / "all" / "test" / "iron.Cif", METAL)
    (tmp_path / "all" / "id_prop.csv").write_text("a,1.5\n")
    collection = load_collection(tmp_path / "all")
    assert collection.ids.tolist() == ["SALT", "iron"]
    single = load_collection(tmp_path / "all" / "SALT.CIF")
    assert single.name == "SALT"


def test_other_csv_files_in_a_cif_folder_are_ignored(tmp_path):
    write(tmp_path / "a.cif", METAL)
    (tmp_path / "id_prop.csv").write_text("a,1.5\n")
    assert load_collection(tmp_path).ids.tolist() == ["a"]
    (tmp_path / "test.csv").write_text("material_id,cif\n")
    with pytest.raises(DamagedFileError, match="no rows below the header"):
        load_collection(tmp_path)


def test_empty_folder_raises_an_error(tmp_path):
    with pytest.raises(MissingDataError, match=r"train, val and test, got no CIF file"):
        load_collection(tmp_path)
