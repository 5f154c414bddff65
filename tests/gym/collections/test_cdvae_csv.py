"""Test CSV files in the format of CDVAE: splits, labels and damaged rows."""

import bz2
import csv
import gzip
import io

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from crystal_gym.collections import load_collection
from crystal_gym.collections.cdvae_csv import load_cdvae_csv
from crystal_gym.collections.mp20 import FILES
from crystal_gym.collections.mp20 import load as load_mp20
from crystal_gym.crystals.skeleton import split_structure
from crystal_gym.errors import (
    BadCrystalError,
    CrystalGymError,
    DamagedFileError,
    MissingDataError,
    ParserWarning,
    UnknownNameError,
)
from crystal_gym.utils import files
from crystal_gym.utils.files import find_local, read_verified

pytestmark = pytest.mark.usefixtures("cache")


def structure(row):
    n = 1 + row % 3
    lattice = Lattice.from_parameters(4 + row / 10, 4.2, 4.4, 88, 92, 95)
    coords = [[0.6, 0.5, 0.5], [0.1, 0, 0], [0.1, 0.5, 0.5]][:n]
    return Structure(lattice, ["O", "Na", "Cl"][:n], coords)


def table(rows, columns=(), **changes):
    """Return CSV text with an index column and a CIF for each row."""
    out = io.StringIO()
    writer = csv.DictWriter(out, ["", "material_id", *columns, "cif"], extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        entry = {"": row, "material_id": f"m-{row}", "cif": str(CifWriter(structure(row)))}
        entry |= {name: values.get(row, "") for name, values in changes.items()}
        writer.writerow(entry)
    return out.getvalue()


def test_folder_files_define_the_splits(tmp_path):
    folder = tmp_path / "my set"
    folder.mkdir()
    (folder / "train.csv").write_text(table([0, 1, 2]))
    with gzip.open(folder / "val.csv.gz", "wt") as file:
        file.write(table([3]))
    (folder / "test.csv").write_text(table([5, 4]))
    collection = load_collection(folder)
    assert collection.name == "my-set-35db3f19"
    assert collection.ids.tolist() == [f"m-{row}" for row in (0, 1, 2, 3, 5, 4)]
    assert collection.splits.tolist() == ["train"] * 3 + ["val"] + ["test"] * 2
    assert collection.labels == {}
    for row, crystal in enumerate((0, 1, 2, 3, 5, 4)):
        skeleton, numbers = split_structure(structure(crystal))
        assert np.allclose(collection.skeleton(row).frac_coords, skeleton.frac_coords)
        assert np.array_equal(collection.skeleton(row).edges, skeleton.edges)
        assert collection.atomic_numbers[row, : len(numbers)].tolist() == numbers.tolist()


def test_single_file_is_split_by_a_hash_of_the_ids(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text(table(range(10)))
    collection = load_collection(path)
    assert collection.name == "all"
    assert [len(collection.in_split(s)) for s in ("train", "val", "test")] == [8, 1, 1]
    path.write_text(table(reversed(range(10))))
    reordered = load_cdvae_csv(path)
    assert dict(zip(collection.ids, collection.splits, strict=True)) == dict(
        zip(reordered.ids, reordered.splits, strict=True)
    )


def test_split_column_defines_the_splits_and_is_validated(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text(table(range(3), ["split"], split={0: "val", 1: "train", 2: "test"}))
    assert load_cdvae_csv(path).splits.tolist() == ["val", "train", "test"]
    path.write_text(table(range(3), ["Split"], Split={0: "Valid", 1: "training", 2: "TEST"}))
    assert load_cdvae_csv(path).splits.tolist() == ["val", "train", "test"]
    for bad in ("other", ""):
        path.write_text(table(range(3), ["split"], split={0: "val", 1: bad, 2: "test"}))
        with pytest.raises(
            CrystalGymError, match=rf"all\.csv, row 2: expected a split .* got '{bad}'"
        ):
            load_cdvae_csv(path)


def test_columns_of_numbers_become_labels(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text(
        table(
            range(3),
            ["energy", "formula", "nothing"],
            energy={0: "-1.5", 2: "2e-3"},
            formula={0: "1", 1: "O2", 2: "3"},
        )
    )
    for _ in range(2):  # from the file and from the cache
        labels = load_cdvae_csv(path).labels
        assert list(labels) == ["energy"]
        assert np.array_equal(labels["energy"], [-1.5, np.nan, 2e-3], equal_nan=True)


def test_changed_file_is_prepared_again(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text(table(range(2)))
    assert len(load_cdvae_csv(path)) == 2
    path.write_text(table(range(3)))
    assert len(load_cdvae_csv(path)) == 3


@pytest.mark.parametrize("column", ["cif", "material_id"])
def test_missing_column_raises_an_error(tmp_path, column):
    path = tmp_path / "all.csv"
    path.write_text(table([0]).replace(column, "other", 1))
    with pytest.raises(
        DamagedFileError, match=f"all.csv: .* got no column '{column}' among .*other"
    ):
        load_cdvae_csv(path)


@pytest.mark.parametrize(
    "row",
    [
        "2,m-2",  # too few entries
        "2,,text",  # no id
        "2,m-2,text,more",  # too many entries
    ],
)
def test_error_gives_the_number_of_a_broken_row(tmp_path, row):
    path = tmp_path / "all.csv"
    path.write_text(table([0, 1]) + row + "\n")
    with pytest.warns(ParserWarning, match=r"1 of 3 crystals .*\n.*all\.csv, row 3"):
        assert load_cdvae_csv(path, on_error="skip").ids.tolist() == ["m-0", "m-1"]
    with pytest.raises(BadCrystalError, match=r"^all\.csv, row 3: .* a broken row"):
        load_cdvae_csv(path)


def test_error_gives_the_number_of_a_row_with_an_open_quote(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text(table([0, 1]) + '2,m-2,"data_')
    with pytest.raises(DamagedFileError, match=r"all\.csv, row 3: expected valid CSV"):
        load_cdvae_csv(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: "nothing", "Expected a readable CIF"),
        (lambda cif: cif.replace("1\n", "0.5\n"), "disordered or partly occupied"),
        (lambda cif: cif[: cif.index("_atom_site_type_symbol")], "Expected a readable CIF"),
    ],
    ids=["no CIF", "partial occupancy", "no sites"],
)
def test_error_gives_the_row_and_id_of_a_bad_crystal(tmp_path, change, message):
    path = tmp_path / "all.csv"
    rows = list(csv.DictReader(io.StringIO(table([0, 1]))))
    rows[1]["cif"] = change(rows[1]["cif"])
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(BadCrystalError, match=rf"all\.csv, row 2 \(crystal 'm-1'\): .*{message}"):
        load_cdvae_csv(path)


def test_repeated_id_in_another_file_raises_an_error(tmp_path):
    (tmp_path / "train.csv").write_text(table([0, 1]))
    (tmp_path / "test.csv").write_text(table([2, 1]))
    with pytest.raises(CrystalGymError, match=r"test\.csv, row 2: .* 'm-1' .* train\.csv, row 2"):
        load_cdvae_csv(tmp_path)


def test_errors_give_the_unreadable_file(tmp_path):
    folder = tmp_path / "csv"
    folder.mkdir()
    with pytest.raises(MissingDataError, match=r"train\.csv, .* got no files"):
        load_cdvae_csv(folder)
    (folder / "odd.csv").write_text(table([0]))
    with pytest.raises(MissingDataError, match=r"train\.csv, .* got only 1 file \(odd\.csv\)"):
        load_collection(folder)
    with pytest.raises(UnknownNameError, match="Unknown collection, file or folder"):
        load_collection(tmp_path / "absent.csv")
    with pytest.raises(MissingDataError, match=r"Expected a file .*absent\.csv"):
        load_cdvae_csv(tmp_path / "absent.csv")
    packed = gzip.compress(table([0]).encode())
    (folder / "odd.csv").unlink()
    for content in (packed[:-20], b"no gzip", packed[:50] + b"?" + packed[51:]):
        (folder / "train.csv.gz").write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"train\.csv\.gz cannot be read"):
            load_cdvae_csv(folder)
    (tmp_path / "empty.csv").write_text("material_id,cif\n")
    with pytest.raises(DamagedFileError, match="no rows below the header"):
        load_cdvae_csv(tmp_path / "empty.csv")
    (tmp_path / "other.csv").write_text(table([0]).replace(",", ";"))
    with pytest.raises(DamagedFileError, match="separated by ';'"):
        load_cdvae_csv(tmp_path / "other.csv")
    (tmp_path / "twice.csv").write_text("material_id,cif,gap,gap\na,b,1,2\n")
    with pytest.raises(DamagedFileError, match="distinct names of columns, got 'gap'"):
        load_cdvae_csv(tmp_path / "twice.csv")


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("data_", "# é\ndata_").encode("latin-1"),
        lambda text: text.replace("\r\n", "\n").replace("\n", "\r\n").encode(),
        lambda text: text.replace("\r\n", "\n").replace("\n", "\r").encode(),
        lambda text: bz2.compress(text.encode()),
    ],
)
def test_encodings_and_line_ends_do_not_change_the_crystals(tmp_path, encode):
    path = tmp_path / "all.csv"
    path.write_text(table([0, 1]))
    expected = load_cdvae_csv(path).fingerprint()
    path.write_bytes(encode(table([0, 1])))
    assert load_cdvae_csv(path).fingerprint() == expected


def test_cells_above_the_limit_of_the_csv_module_are_read(tmp_path):
    path = tmp_path / "all.csv"
    limit = csv.field_size_limit()
    reflections = "".join(f"# reflection {i}\n" for i in range(10_000))
    path.write_text(table([0, 1]).replace("data_", f"{reflections}data_", 1))
    assert load_cdvae_csv(path).ids.tolist() == ["m-0", "m-1"]
    assert csv.field_size_limit() == limit


def test_mp20_uses_local_copies_and_rejects_larger_cells(tmp_path, monkeypatch):
    monkeypatch.setenv("CRYSTAL_GYM_DATA", str(tmp_path))
    monkeypatch.setattr(files, "read_verified", lambda *_: b"")
    (tmp_path / "mp_20").mkdir()
    for number, (split, file) in enumerate(FILES.items()):
        name = file.name if split == "train" else f"mp_20/{split}.csv"
        (tmp_path / name).write_text(
            table([number], ["formation_energy_per_atom"], formation_energy_per_atom={number: "-1"})
        )
    collection = load_mp20(progress=False)
    assert collection.name == "mp-20"
    assert collection.splits.tolist() == ["train", "val", "test"]
    assert collection.labels["formation_energy_per_atom"].tolist() == [-1, -1, -1]
    large = Structure(Lattice.cubic(12), ["Na"] * 27, np.argwhere(np.ones((3, 3, 3))) / 3)
    text = table([0])
    row = text.index('"# generated')
    cif = str(CifWriter(large)).replace('"', "'")
    (tmp_path / "mp_20" / "val.csv").write_text(f'{text[:row]}"{cif}"\n'.replace("m-0", "m-9"))
    with pytest.raises(BadCrystalError, match=r"val\.csv, row 1 .*at most 20 sites, got 27"):
        load_mp20(progress=False)


def test_mp20_rejects_other_files(tmp_path, monkeypatch):
    monkeypatch.setenv("CRYSTAL_GYM_DATA", str(tmp_path))
    for file in FILES.values():
        (tmp_path / file.name).write_text(table([0]))
    with pytest.raises(DamagedFileError, match=r"mp_20_train\.csv is damaged or another version"):
        load_mp20(progress=False)


@pytest.mark.real
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_local_copies_of_mp20_are_those_that_are_accepted(split):
    file = FILES[split]
    content = read_verified(find_local(file, "mp_20"), file.contents)
    assert content.startswith(b"material_id,")


@pytest.mark.real
def test_original_cdvae_files_are_read_with_their_labels(tmp_path):
    from crystal_gym.collections.perov5_labels import CSV_FILES, verified_csv
    from crystal_gym.utils.files import find_local

    text = verified_csv(find_local(CSV_FILES["val"], "perov_5")).decode()
    rows = list(csv.DictReader(io.StringIO(text)))[:20]
    with (tmp_path / "val.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    collection = load_cdvae_csv(tmp_path)
    assert collection.splits.tolist() == ["val"] * 20
    assert sorted(collection.labels) == ["dir_gap", "heat_all", "heat_ref", "ind_gap"]
    assert collection.labels["heat_all"].tolist() == [float(row["heat_all"]) for row in rows]
