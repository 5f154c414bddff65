"""The DFT labels of Perov-5: verification, parsing, caching, and all values of the files."""

import csv
import gzip
import io
import logging
import shutil

import numpy as np
import pytest

from crystal_gym.collections import perov5_labels as module
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.elements import atomic_number
from crystal_gym.errors import DamagedFileError, DownloadError, StorageError
from crystal_gym.utils import settings
from crystal_gym.utils.files import RemoteFile, find_local, sha256

# All labels in one table, made independently of this package.
REFERENCE = RemoteFile(
    name="perov5_labels.csv.gz",
    url="",
    checksum="24f24a088477d7b30f9d38f2ab7c88a85d23319a87eeedea5f65401e90b9dfc1",
)
SITES = ("A", "B", "X1", "X2", "X3")
DFT_FILES = (module.DFT_FILE, module.CORRECTED_FILE)


def make_collection(elements, ids=None):
    """Return crystals with given symbols on their five sites and without geometry."""
    n = len(elements)
    numbers = [[atomic_number(symbol) for symbol in row] for row in elements]
    return CrystalCollection(
        name="perov-5",
        ids=np.array(ids if ids is not None else [f"crystal-{row}" for row in range(n)]),
        splits=np.full(n, "train"),
        n_sites=np.full(n, 5, np.int32),
        atomic_numbers=np.array(numbers, np.int16),
        parameters=np.zeros((n, 6)),
        frac_coords=np.zeros((n, 5, 3)),
        n_edges=np.zeros(n, np.int32),
        flat_edges=np.zeros((0, 5), np.int16),
    )


@pytest.fixture(scope="module")
def reference():
    path = find_local(REFERENCE, "perov_5")
    assert path, f"Expected {REFERENCE.name} in a folder of {settings.DATA_VARIABLE}, got none."
    assert sha256(path) == REFERENCE.checksum
    return list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """Return a data folder with copies of the two DFT files only."""
    folder = tmp_path / "data"
    folder.mkdir()
    for file in DFT_FILES:
        shutil.copy(find_local(file, "perov_5"), folder / file.name)
    monkeypatch.setenv(settings.DATA_VARIABLE, str(folder))
    return folder


TITANATE = [["Sr", "Ti", "O", "O", "O"]]


@pytest.mark.real
def test_labels_of_all_crystals_equal_the_reference(reference):
    assert len(reference) == 18_928
    crystals = make_collection(
        [[row[site] for site in SITES] for row in reference],
        [row["material_id"] for row in reference],
    )
    labels = module.read_labels(crystals)
    assert set(labels) == set(module.LABEL_NAMES)
    assert set(labels) | {"material_id", "split", *SITES} == set(reference[0])
    for name in set(module.LABEL_NAMES) - {"heat_ref"}:
        expected = np.array([float(row[name]) for row in reference])
        # The reference has the band edges with six decimals.
        assert np.allclose(labels[name], expected, rtol=0, atol=6e-7), name
        assert name[:2] in {"vb", "cb"} or np.array_equal(labels[name], expected), name
    # Only CDVAE's files have `heat_ref`, here those of val and test.
    known = np.array([row["split"] != "train" for row in reference])
    assert np.array_equal(np.isfinite(labels["heat_ref"]), known)
    expected = np.array([float(row["heat_ref"] or "nan") for row in reference])
    assert np.array_equal(labels["heat_ref"][known], expected[known])


@pytest.mark.real
def test_the_reference_has_the_elements_of_the_structures(reference, perov5):
    expected = {
        row["material_id"]: [atomic_number(row[site]) for site in SITES] for row in reference
    }
    for crystal, numbers in zip(perov5.ids.tolist(), perov5.atomic_numbers.tolist(), strict=True):
        assert numbers == expected[crystal]


@pytest.mark.real
def test_labels_equal_those_of_cdvae_in_val_and_test(reference):
    crystals = make_collection(
        [[row[site] for site in SITES] for row in reference],
        [row["material_id"] for row in reference],
    )
    labels = module.read_labels(crystals)
    compared = 0
    for split in ("val", "test"):
        path = find_local(module.CSV_FILES[split], "perov_5")
        for row in csv.DictReader(io.StringIO(module.verified_csv(path).decode())):
            crystal = crystals.index(row["material_id"])
            for name in ("heat_all", "dir_gap", "ind_gap", "heat_ref"):
                assert labels[name][crystal] == float(row[name])
            compared += 1
    assert compared == 7_572


@pytest.mark.real
def test_labels_are_consistent_over_the_grid(reference):
    crystals = make_collection([[row[site] for site in SITES] for row in reference])
    labels = module.read_labels(crystals)
    assert (labels["ind_gap"] <= labels["dir_gap"]).all()
    for kind in ("dir", "ind"):
        difference = labels[f"vb_{kind}"] - labels[f"cb_{kind}"] - labels[f"{kind}_gap"]
        # Gaps are rounded to 0.1 eV; the indirect gap of InHfO2F is an exception.
        assert np.sort(np.abs(difference))[-2] < 0.0501
        assert np.abs(difference).max() < 0.1001
    correction = labels["heat_all_corrected"] - labels["heat_all"]
    corrected = correction != 0
    assert corrected.sum() == 1_604
    assert correction[corrected].min() == pytest.approx(-0.62)
    assert correction[corrected].max() == pytest.approx(-0.02)
    oxyfluoride = np.sort([atomic_number(symbol) for symbol in ("O", "O", "F")])
    assert (np.sort(crystals.atomic_numbers[corrected, 2:], axis=1) == oxyfluoride).all()


@pytest.mark.real
def test_labels_belong_to_a_b_and_the_set_of_anions():
    crystals = make_collection(
        [
            ["Sr", "Ti", "F", "O", "O"],
            ["Sr", "Ti", "O", "F", "O"],
            ["Sr", "Ti", "O", "O", "F"],
            ["Ti", "Sr", "F", "O", "O"],
            ["Sr", "Ti", "F", "F", "O"],
            ["Sr", "F", "Ti", "O", "O"],
        ]
    )
    labels = module.read_labels(crystals)
    heat = labels["heat_all"]
    assert np.isnan(labels["heat_ref"]).all()  # belongs to the ids of CDVAE
    assert heat[0] == heat[1] == heat[2]
    assert np.isfinite(heat).tolist() == [True, True, True, True, False, False]
    assert heat[3] != heat[0]


@pytest.mark.real
def test_parsed_labels_are_cached_and_read_back_unchanged(copies, cache, monkeypatch):
    crystals = make_collection(TITANATE)
    first = module.read_labels(crystals)
    files = sorted((cache / "prepared").iterdir())
    assert len(files) == len(DFT_FILES)
    monkeypatch.setattr(module, "read_label_grid", None)  # is not called again
    again = module.read_labels(crystals)
    assert first.keys() == again.keys() == set(module.LABEL_NAMES) - {"heat_ref"}
    assert all(np.array_equal(first[name], again[name]) for name in first)
    for file in files:
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DamagedFileError, match="the next use prepares it again"):
        module.read_labels(crystals)


@pytest.mark.real
def test_labels_are_read_without_a_writable_cache(copies, cache, monkeypatch, caplog):
    def fail(*_, **__):
        raise StorageError("The cache is read-only.")

    expected = module.read_labels(make_collection(TITANATE))
    shutil.rmtree(cache)
    monkeypatch.setattr(module, "save_arrays", fail)
    with caplog.at_level(logging.INFO):
        labels = module.read_labels(make_collection(TITANATE))
    assert labels.keys() == expected.keys()
    assert all(labels[name] == expected[name] for name in labels)
    assert "not cached: The cache is read-only." in caplog.text


@pytest.mark.real
@pytest.mark.parametrize("cached", [False, True], ids=["not cached", "cached"])
@pytest.mark.parametrize("file", DFT_FILES, ids=lambda file: file.name)
def test_truncated_replaced_and_malicious_files_are_not_parsed(
    copies, cache, file, cached, monkeypatch
):
    if cached:  # the verification does not depend on arrays that are already cached
        module.read_labels(make_collection(TITANATE))
    monkeypatch.setattr(module, "read_label_grid", None)
    path = copies / file.name
    content = path.read_bytes()
    other = next(copies / other.name for other in DFT_FILES if other is not file).read_bytes()
    for damaged in (
        content[:-1],
        content[: len(content) // 2],
        b"",
        content[:-1] + b"?",
        other,
        b"cos\nsystem\n(S'true'\ntR.",
    ):
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match=rf"{file.name} is damaged or another.*SHA-256"):
            module._grid_labels(make_collection(TITANATE), path, file.checksum, {})
    if file is module.DFT_FILE:
        with pytest.raises(DamagedFileError, match=f"{file.name} is damaged"):
            module.read_labels(make_collection(TITANATE))


@pytest.mark.real
def test_each_file_gives_its_labels_without_the_others(copies, cache):
    crystals = make_collection(TITANATE)
    (copies / module.CORRECTED_FILE.name).unlink()
    assert set(module.read_labels(crystals)) == set(module.COLUMNS)
    (copies / module.DFT_FILE.name).unlink()
    assert module.read_labels(crystals) == {}


def test_missing_files_are_downloaded_on_request_only(cache, monkeypatch):
    monkeypatch.delenv(settings.DATA_VARIABLE, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert module.read_labels(make_collection(TITANATE)) == {}
    with pytest.raises(DownloadError) as caught:
        module.read_labels(make_collection(TITANATE), download=True, progress=False)
    for part in (module.DFT_FILE.name, module.DFT_FILE.url, settings.DATA_VARIABLE):
        assert part in str(caught.value)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_every_label_has_a_file():
    for name in module.LABEL_NAMES:
        assert module.label_files(name)
    assert module.label_files("heat_all") == (module.DFT_FILE,)
    assert module.label_files("heat_all_corrected") == (module.CORRECTED_FILE,)
    assert module.label_files("heat_ref") == tuple(module.CSV_FILES.values())
    assert len(module.label_files("volume")) == 5
    for name in module.LABEL_NAMES:
        assert f"`{name}`" in module.__doc__


@pytest.mark.real
def test_damaged_or_other_csv_files_raise_an_error(tmp_path):
    packed = find_local(module.CSV_FILES["val"], "perov_5").read_bytes()
    path = tmp_path / "cdvae_val.csv.gz"
    for content, message in (
        (packed[:-100], "cannot be read"),
        (b"", "one of CDVAE's three"),
        (gzip.compress(b"material_id,cif\n"), "one of CDVAE's three"),
    ):
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match=message):
            module.verified_csv(path)
