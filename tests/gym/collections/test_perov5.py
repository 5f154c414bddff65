"""Test the split, site order and labels of Perov-5 on the original files."""

import csv
import dataclasses
import io

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystal_gym.collections import perov5 as module
from crystal_gym.collections.collection import SPLITS
from crystal_gym.collections.perov5_labels import CSV_FILES, LABEL_NAMES, verified_csv
from crystal_gym.crystals.elements import atomic_number
from crystal_gym.errors import BadCrystalError, DamagedFileError, MissingDataError
from crystal_gym.utils import settings
from crystal_gym.utils.files import fetch, find_local


@pytest.fixture(scope="module")
def raw():
    return module.read_structures(fetch(module.STRUCTURES, "perov_5"))


def local_csv(split):
    path = find_local(CSV_FILES[split], "perov_5")
    return list(csv.DictReader(io.StringIO(verified_csv(path).decode())))


def sites_of_cif(cif):
    """Return the symbols and fractional coordinates of a P1 CIF in the order of the file."""
    rows = [line.split() for line in cif.split("_atom_site_occupancy\n")[1].splitlines()]
    sites = [row for row in rows if len(row) == 7]
    return [row[0] for row in sites], np.array([row[3:6] for row in sites], float)


@pytest.mark.real
def test_split_equals_that_of_cdvae(raw):
    counts = {split: sum(crystal.split == split for crystal in raw) for split in SPLITS}
    assert counts == {"train": 11_356, "val": 3_787, "test": 3_785}
    assert len({crystal.id for crystal in raw}) == 18_928
    for split in ("val", "test"):
        ids = {row["material_id"] for row in local_csv(split)}
        assert ids == {crystal.id for crystal in raw if crystal.split == split}


@pytest.mark.real
def test_crystals_contain_the_56_elements(raw):
    present = {symbol for crystal in raw for symbol in crystal.content.splitlines()[5].split()}
    assert sorted(present, key=atomic_number) == list(module.ELEMENTS)
    assert len(module.ELEMENTS) == 56


@pytest.mark.real
def test_site_order_and_coordinates_equal_those_of_cdvae_in_val_and_test(raw):
    structures = {crystal.id: crystal for crystal in raw}
    compared = 0
    for split in ("val", "test"):
        for row in local_csv(split):
            symbols, coords = sites_of_cif(row["cif"])
            structure = structures[row["material_id"]].structure()
            order = module.abx3_order(structure)
            assert [structure[i].specie.symbol for i in order] == symbols
            ordered = structure.frac_coords[order]
            difference = np.abs(ordered - coords - np.round(ordered - coords))
            # The JSON file was written after a CIF parser rounded 0.33335 to 1/3 in 5 crystals.
            thirds = np.abs(3 * ordered - np.round(3 * ordered)) < 1e-9
            assert (difference < np.where(thirds, 1e-4, 1e-9)).all()
            length = float(row["cif"].split("_cell_length_a")[1].split()[0])
            assert structure.lattice.a == pytest.approx(length, abs=1e-6)
            compared += 1
    assert compared == 7_572


@pytest.mark.real
def test_coordination_number_is_12_for_a_and_6_for_b(perov5):
    sources = perov5.edges[..., 0]
    # Large displacements along x reduce the coordination number, for A often to 4.
    for site, neighbors in ((0, 12), (1, 6)):
        counts = (sources == site).sum(axis=1)
        assert np.median(counts) == neighbors
        assert (counts == neighbors).mean() > 0.6


@pytest.mark.real
def test_cells_are_cubic_with_displacements_along_x_only(perov5):
    assert np.allclose(perov5.parameters[:, 3:], 90)
    assert np.allclose(perov5.parameters[:, :3], perov5.parameters[:, :1])
    assert perov5.parameters[:, 0].min() > 3.2
    assert perov5.parameters[:, 0].max() < 5.7
    yz = np.array([[0, 0], [1, 1], [0, 1], [1, 0], [1, 1]]) / 2
    assert np.allclose(perov5.frac_coords[:, :, 1:], yz)
    anions = [atomic_number(symbol) for symbol in ("N", "O", "F", "S")]
    assert np.isin(perov5.atomic_numbers[:, 2:], anions).all()
    assert not np.isin(perov5.atomic_numbers[:, :2], anions).any()
    assert set(np.unique(perov5.atomic_numbers)) <= set(map(atomic_number, module.ELEMENTS))


@pytest.mark.real
def test_load_reads_all_labels_from_the_data_folder(perov5, monkeypatch):
    monkeypatch.setattr(module, "prepared_collection", lambda *_, **__: perov5_copy(perov5))
    collection = module.load(progress=False)
    assert set(collection.labels) == set(LABEL_NAMES)
    for name in set(LABEL_NAMES) - {"heat_ref"}:
        assert np.isfinite(collection.labels[name]).all()
    for split in ("val", "test"):
        rows = {row["material_id"]: row for row in local_csv(split)}
        for row in collection.in_split(split):
            for name in ("heat_all", "heat_ref", "dir_gap", "ind_gap"):
                expected = float(rows[str(collection.ids[row])][name])
                assert collection.labels[name][row] == expected


def perov5_copy(collection):
    return dataclasses.replace(collection, labels={})


@pytest.mark.real
def test_damaged_local_copies_raise_an_error(tmp_path, monkeypatch):
    zipped = find_local(module.STRUCTURES, "perov_5")
    content = zipped.read_bytes()
    monkeypatch.setenv(settings.DATA_VARIABLE, str(tmp_path))
    for damaged in (content[: len(content) // 2], b"", content[:-1] + b"?"):
        (tmp_path / zipped.name).write_bytes(damaged)
        with pytest.raises(DamagedFileError, match=f"{zipped.name} is damaged .* SHA-256"):
            module.load(progress=False)


def test_load_error_without_copy_and_network_gives_file_address_and_setting(cache, monkeypatch):
    monkeypatch.delenv(settings.DATA_VARIABLE, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(MissingDataError) as caught:
        module.load(progress=False)
    for part in (module.STRUCTURES.name, module.STRUCTURES.url, settings.DATA_VARIABLE):
        assert part in str(caught.value)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def perovskite(species, x=(0.0, 0.5, 0.5, 0.5, 0.0)):
    yz = np.array([[0, 0], [1, 1], [0, 1], [1, 0], [1, 1]]) / 2
    return Structure(Lattice.cubic(4), species, np.column_stack([x, yz]))


def test_abx3_order_does_not_depend_on_file_order_or_image():
    crystal = perovskite(["Sr", "Ti", "N", "O", "O"])
    rng = np.random.default_rng(0)
    for _ in range(20):
        shuffle = rng.permutation(5)
        shift = rng.integers(-2, 3, (5, 3)) + rng.choice([-1e-10, 0, 1e-10], (5, 3))
        species, coords = [crystal[i].specie for i in shuffle], crystal.frac_coords[shuffle]
        moved = Structure(crystal.lattice, species, coords + shift)
        assert shuffle[module.abx3_order(moved)].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "structure",
    [
        perovskite(["Sr", "O", "O", "O", "O"]),
        perovskite(["Sr", "Ti", "O", "O", "Cl"]),
        Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    ],
)
def test_abx3_order_rejects_other_crystals(structure):
    with pytest.raises(BadCrystalError, match="Expected a Perov-5 cell"):
        module.abx3_order(structure)
