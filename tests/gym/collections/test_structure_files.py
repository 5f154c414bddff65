"""Test collections from folders and lists of structure files."""

import gzip
import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from crystal_gym.collections import load_collection
from crystal_gym.collections.structure_files import load_structure_folder
from crystal_gym.crystals.skeleton import split_structure
from crystal_gym.errors import (
    BadCrystalError,
    CrystalGymError,
    DamagedFileError,
    IgnoredFilesWarning,
    MissingDataError,
    ParserWarning,
)
from crystal_gym.formats import read_structure

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
    with pytest.warns(IgnoredFilesWarning, match=r"1 file .* are not read, .*: notes\.txt"):
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
    collection = load_structure_folder(tmp_path)
    assert collection.ids.tolist() == ["a", "b", "c", "d"]
    assert collection.splits.tolist() == ["train", "train", "val", "test"]


def test_changed_file_is_prepared_again(tmp_path):
    write(tmp_path / "c" / "a.cif", METAL)
    assert load_structure_folder(tmp_path / "c").n_sites.tolist() == [1]
    write(tmp_path / "c" / "a.cif", SALT)
    assert load_structure_folder(tmp_path / "c").n_sites.tolist() == [2]


def test_symmetry_operations_of_a_cif_are_applied(tmp_path):
    rock_salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    (tmp_path / "salt.cif").write_text(str(CifWriter(rock_salt, symprec=0.01)))
    collection = load_structure_folder(tmp_path)
    assert collection.n_sites.tolist() == [8]
    assert (np.bincount(collection.skeleton(0).edges[:, 0]) == 6).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("data_nothing\n", "Expected"),
        (
            str(CifWriter(Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]]))),
            "disordered",
        ),
        (
            str(CifWriter(Structure(Lattice.cubic(4), ["Fe", "Ni"], [[0, 0, 0], [0.05, 0, 0]]))),
            "overlap",
        ),
        (f"{CifWriter(SALT)}\n{CifWriter(METAL)}", "a CIF with one crystal, got 2"),
    ],
)
def test_errors_give_the_bad_file(tmp_path, content, message):
    write(tmp_path / "good.cif", METAL)
    bad = tmp_path / "val" / "bad.cif"
    bad.parent.mkdir()
    bad.write_text(content)
    with pytest.raises(BadCrystalError, match=rf"^val/bad\.cif .*{message}") as caught:
        load_structure_folder(tmp_path)
    assert 'on_error="skip"' in str(caught.value)
    with pytest.warns(ParserWarning, match=r"1 of 2 crystals cannot be read .*\n.* val/bad\.cif"):
        collection = load_structure_folder(tmp_path, on_error="skip")
    assert collection.ids.tolist() == ["good"]


def test_damaged_files_and_large_cells_raise_an_error(tmp_path):
    write(tmp_path / "good.cif", METAL)
    write(tmp_path / "val" / "bad.cif", SALT)
    with pytest.raises(BadCrystalError, match=r"^val/bad\.cif .*at most 1 sites, got 2"):
        load_structure_folder(tmp_path, max_sites=1)
    (tmp_path / "val" / "bad.cif").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DamagedFileError, match=r"^val/bad\.cif cannot be read"):
        load_structure_folder(tmp_path)


def test_repeated_file_name_raises_an_error(tmp_path):
    write(tmp_path / "a.cif", METAL)
    write(tmp_path / "test" / "a.cif", SALT)
    with pytest.raises(CrystalGymError, match=r"a\.cif and test/a\.cif have the same name"):
        load_structure_folder(tmp_path)


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
    assert load_collection([SALT, files[1]]).ids.tolist() == ["0", "iron"]
    with pytest.raises(CrystalGymError, match="Expected a crystal at position 1, got 7"):
        load_collection([SALT, 7])
    with pytest.raises(CrystalGymError, match="Expected the name or the path of a collection"):
        load_collection(7)


def test_upper_case_extensions_are_accepted(tmp_path):
    write(tmp_path / "all" / "SALT.CIF", SALT)
    write(tmp_path / "all" / "test" / "iron.Cif", METAL)
    collection = load_collection(tmp_path / "all")
    assert collection.ids.tolist() == ["SALT", "iron"]
    single = load_collection(tmp_path / "all" / "SALT.CIF")
    assert single.name == "SALT"


def files_of(layout, folder):
    """Write the files of a layout: `.csv` tables with or without crystals, CIFs, other files."""
    for number, entry in enumerate(layout.split()):
        name, _, content = entry.partition("=")
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        if content == "labels":
            path.write_text("a,1.5\n")
        elif path.suffix == ".csv":
            path.write_text(f'material_id,cif\nm-{number},"{CifWriter(METAL)}"\n')
        elif path.suffix == ".cif":
            write(path, METAL)
        elif path.suffix in {".json", ".vasp", ".extxyz"}:
            text = METAL.to(fmt={".json": "json", ".vasp": "poscar"}.get(path.suffix, "cif"))
            if path.suffix == ".extxyz":
                text = '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3\nFe 0 0 0\n'
            path.write_text(text)
        else:
            path.write_text("text")


@pytest.mark.parametrize(
    ("layout", "splits"),
    [
        ("a.cif train/b.cif val/c.cif test/d.cif", "train train val test"),
        ("train/a.cif valid/b.cif test/c.cif", "train val test"),
        ("Training/a.cif Dev/b.cif TESTING/c.cif", "train val test"),
        ("train/a.cif validation/b.vasp test/c.json", "train val test"),
        ("train/a.cif val/.DS_Store valid/b.cif", "train val"),
        ("a.cif train.cif", "train train"),
        ("train.json valid.json", "train val"),
        ("train.extxyz dev.extxyz test.extxyz", "train val test"),
        ("train.csv valid.csv", "train val"),
        ("Train.CSV DEV.csv test.csv".replace(".CSV", ".csv"), "train val test"),
        ("a.cif README README.md LICENSE .hidden .git/b.cif __MACOSX/c.cif", "train"),
    ],
)
def test_layouts_that_are_read(tmp_path, layout, splits):
    files_of(layout, tmp_path)
    assert load_collection(tmp_path).splits.tolist() == splits.split()


@pytest.mark.parametrize(
    ("layout", "named"),
    [
        ("a.cif oxides/b.cif oxides/c.cif", ["2 files", "oxides/b.cif", "oxides/c.cif"]),
        ("a.cif oxides/deep/b.vasp", ["oxides/deep/b.vasp"]),
        ("train/a.cif train/oxides/b.cif", ["train/oxides/b.cif"]),
        ("train/a.cif my-val/b.cif", ["my-val/b.cif"]),
        ("train/a.cif val/b.cif valid/c.cif", ["split val", "valid", "val"]),
        ("val.csv dev.csv", ["split val", "dev.csv", "val.csv"]),
        ("train.csv other.csv", ["other.csv"]),
        ("train.csv oxides/a.cif", ["oxides/a.cif"]),
        ("train.csv more/b.csv", ["more/b.csv"]),
        ("train.csv a.cif", ["train.csv"]),
        ("a.cif data.csv", ["data.csv"]),
        ("train/a.cif val/b.csv", ["val/b.csv"]),
        ("train.json other.json", ["train.json", "other.json"]),
        ("train.json val/a.cif val.json", ["split val", "val.json"]),
        ("oxides/a.cif", ["oxides/a.cif"]),
        ("other.csv", ["other.csv"]),
        ("a.txt", ["a.txt"]),
        ("a.pdb", ["a.pdb"]),
    ],
)
def test_layouts_that_would_leave_crystals_out(tmp_path, layout, named):
    files_of(layout, tmp_path)
    with pytest.raises(CrystalGymError) as caught:
        load_collection(tmp_path)
    assert all(name in str(caught.value) for name in named), str(caught.value)


@pytest.mark.parametrize(
    ("layout", "named"),
    [
        ("a.cif id_prop.csv=labels", "1 file .*: id_prop.csv"),
        ("train.csv id_prop.csv=labels", "1 file .*: id_prop.csv"),
        ("a.cif figures/b.png val/c.log", "2 files .*: figures/b.png, val/c.log"),
        ("a.cif " + " ".join(f"f{i:02}.txt" for i in range(12)), "12 files .*f09.txt and 2 more"),
    ],
)
def test_files_without_crystals_are_listed_in_a_warning(tmp_path, layout, named):
    files_of(layout, tmp_path)
    with pytest.warns(IgnoredFilesWarning, match=named) as caught:
        assert len(load_collection(tmp_path)) == 1
    assert len(caught) == 1


def test_exclusions_are_reported_again_from_the_cache(tmp_path, cache):
    for row in range(4):
        write(tmp_path / "c" / f"good-{row}.cif", METAL)
    (tmp_path / "c" / "bad.cif").write_text("nothing")
    (tmp_path / "c" / "cut.vasp.gz").write_bytes(gzip.compress(b"x" * 1000)[:-5])
    (tmp_path / "c" / "old.mcif").write_text("data_")
    for _ in range(2):
        with pytest.warns(ParserWarning, match="3 of 7 crystals cannot be read") as caught:
            collection = load_collection(tmp_path / "c", on_error="skip")
        assert len(caught) == 1
        assert len(collection) == 4
        assert [text.split(" ")[0] for text in collection.excluded] == [
            "bad.cif",
            "cut.vasp.gz",
            "old.mcif",
        ]
        with pytest.raises(CrystalGymError, match=r'bad\..*on_error="skip"'):
            load_collection(tmp_path / "c")
    for path in (tmp_path / "c").glob("good*"):
        path.unlink()
    with pytest.raises(BadCrystalError, match=r"got none of 3\. The first error"):
        load_collection(tmp_path / "c", on_error="skip")
    with pytest.raises(CrystalGymError, match="Unknown on_error 'ignore'"):
        load_collection(SALT, on_error="ignore")


def test_single_objects_documents_and_generators_are_collections(tmp_path):
    assert load_collection(SALT).n_sites.tolist() == [2]
    assert load_collection(s for s in (SALT, METAL.as_dict())).n_sites.tolist() == [2, 1]
    documents = [
        {"material_id": "mp-1", "structure": SALT, "band_gap": 5, "is_stable": True, "sym": "a"},
        {"material_id": "mp-2", "structure": METAL.as_dict(), "band_gap": None, "sym": 1},
    ]
    collection = load_collection(documents)
    assert collection.ids.tolist() == ["mp-1", "mp-2"]
    assert list(collection.labels) == ["band_gap"]
    assert np.array_equal(collection.labels["band_gap"], [5, np.nan], equal_nan=True)
    documents[0]["structure"] = SALT.as_dict()
    path = tmp_path / "docs.json"
    path.write_text(json.dumps(documents))
    from_file = load_collection(path)
    assert from_file.fingerprint() == collection.fingerprint()
    assert list(from_file.labels) == ["band_gap"]
    with pytest.raises(BadCrystalError, match="dummy species"):
        load_collection(Structure(Lattice.cubic(4), ["X"], [[0, 0, 0]]))
    with pytest.raises(CrystalGymError, match="Expected the name or the path"):
        load_collection({"lattice": 1})
    env = gym.make("CrystalSkeleton-v0", collection=SALT)
    assert env.unwrapped.table.collection.ids.tolist() == ["0"]


def test_frames_of_a_file_are_crystals(tmp_path):
    frame = '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3\nFe 0 0 0\n'
    (tmp_path / "md.extxyz").write_text(frame + "\n" + frame.replace("Fe", "Ni"))
    collection = load_collection(tmp_path / "md.extxyz")
    assert collection.ids.tolist() == ["md-0", "md-1"]
    assert collection.atomic_numbers.tolist() == [[26], [28]]
    with pytest.raises(CrystalGymError, match=r"one crystal, got 2"):
        read_structure(tmp_path / "md.extxyz")


def test_empty_folder_raises_an_error(tmp_path):
    with pytest.raises(MissingDataError, match=r"got no files"):
        load_collection(tmp_path)
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(CrystalGymError, match=r"Expected a file with crystals, .*POSCAR"):
        load_collection(tmp_path / "notes.txt")
