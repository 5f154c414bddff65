"""DFT labels of Perov-5: heats of formation, band gaps and band edges of all 18,928 crystals.

| label | unit | meaning |
|---|---|---|
| `heat_all` | eV/atom | heat of formation against a pool of references, as in CDVAE's files |
| `heat_all_corrected` | eV/atom | the same with corrections of 1,604 oxyfluorides (O2F) |
| `heat_ref` | eV/atom | heat of formation against other references, only in CDVAE's files |
| `dir_gap`, `ind_gap` | eV | direct and indirect band gap (GLLB-SC) |
| `vb_dir`, `cb_dir` | eV | valence- and conduction-band edge of the direct gap |
| `vb_ind`, `cb_ind` | eV | valence- and conduction-band edge of the indirect gap |

Edges are depths below the vacuum level, on which the potential of hydrogen evolution is at 4.5 eV
and that of oxygen evolution at 5.73 eV. The valence-band edge is therefore the larger number, and
the gap is the difference of the two edges, rounded to 0.1 eV.
"""

import csv
import hashlib
import io
import logging
from pathlib import Path

import numpy as np

from crystal_gym.collections.collection import SPLITS, CrystalCollection
from crystal_gym.collections.perov5_pickle import COLUMNS, read_label_grid
from crystal_gym.collections.preparation import load_arrays, save_arrays
from crystal_gym.errors import DamagedFileError, StorageError
from crystal_gym.utils import settings
from crystal_gym.utils.files import (
    RemoteFile,
    content_checksums,
    fetch,
    find_cached,
    read_content,
)

_log = logging.getLogger(__name__)

_FOLDER = "perov_5"
# Increase when the cached arrays of a label file would change.
_FORMAT = 1

_GENETIC = "https://raw.githubusercontent.com/mp-interns/ga_optimization_ternary/"
DFT_FILE = RemoteFile(
    name="ga_data_process_52e5a81.p",
    url=f"{_GENETIC}52e5a817b324da7f39164b2e6818395d629c7244/"
    "ga_optimization_ternary/data_process.p",
    checksum="e6bed76fac52e2833af2fd7ffff37e6e51935fd1110cb7a6ae121b8c20d357ea",
    aliases=("data_process_52e5a81.p",),
)
CORRECTED_FILE = RemoteFile(
    name="ga_data_process_d37d068.p",
    url=f"{_GENETIC}d37d068dc0c6b2fadb423d7eaf4b4700d605e65a/"
    "ga_optimization_ternary/data_process.p",
    checksum="b44a1f76e8d9a8d5b3ddcdce35f607a07aecf0dcef935c0323862701ab4acf7d",
    aliases=("data_process_d37d068.p",),
)

_CDVAE = (
    "https://raw.githubusercontent.com/txie-93/cdvae/"
    "f857f598d6f6cca5dc1ea0582d228f12dcc2c2ea/data/perov_5/"
)
# Checksums of the uncompressed CSV files; for train, only the id of the git object is published.
_CSV_SHA256 = {
    "val": "326f401219901270374b71e2faff63df3a29a99fd26f469993b9f476b693daf2",
    "test": "a85878c685037f0a578257f6d4fcdde00e968dbab73c5f1e90ecef65218513f6",
}
_TRAIN_GIT_BLOB = "0769074b5d51d293b765c4371b8f55c468c9c9f2"
CSV_FILES = {
    split: RemoteFile(
        name=f"perov_5_{split}.csv",
        url=f"{_CDVAE}{split}.csv",
        checksum=_CSV_SHA256.get(split),
        aliases=(f"cdvae_{split}.csv", f"cdvae_{split}.csv.gz"),
        common_names=(f"{split}.csv", f"{split}.csv.gz"),
    )
    for split in SPLITS
}

# The label of each column of the two DFT files. Of the corrected file, only the heats are read.
_DFT_LABELS: dict[str, str] = {name: name for name in COLUMNS}
_CORRECTED_LABELS = {"heat_all": "heat_all_corrected"}
LABEL_NAMES = (*_DFT_LABELS.values(), *_CORRECTED_LABELS.values(), "heat_ref")


def label_files(label: str) -> tuple[RemoteFile, ...]:
    """Return the files that contain a label of Perov-5; all files for another label."""
    if label in _DFT_LABELS.values():
        return (DFT_FILE,)
    if label in _CORRECTED_LABELS.values():
        return (CORRECTED_FILE,)
    if label == "heat_ref":
        return tuple(CSV_FILES.values())
    return (DFT_FILE, CORRECTED_FILE, *CSV_FILES.values())


def read_labels(
    collection: CrystalCollection, *, download: bool = False, progress: bool = True
) -> dict[str, np.ndarray]:
    """Read the labels of the crystals from the available files.

    Each file is verified by its checksum before it is parsed. The parsed arrays are cached.

    Args:
        collection: Crystals of Perov-5 with C rows.
        download: Download missing files. Otherwise, only local copies and earlier downloads are
            read.
        progress: Show progress bars of downloads.

    Returns:
        The labels by name, float64 (C,), NaN where a crystal is not in the files. Labels without
        any file are absent.

    Raises:
        DownloadError: If a file is missing and cannot be downloaded.
        DamagedFileError: If a file does not match its checksum, or its cached arrays are damaged.
    """

    def find(file: RemoteFile) -> Path | None:
        found = find_cached(file, _FOLDER)
        return found if found or not download else fetch(file, _FOLDER, progress=progress)

    labels: dict[str, np.ndarray] = {}
    for file, names in ((DFT_FILE, _DFT_LABELS), (CORRECTED_FILE, _CORRECTED_LABELS)):
        if path := find(file):
            labels |= _grid_labels(collection, path, str(file.checksum), names)
    paths = [path for file in CSV_FILES.values() if (path := find(file))]
    if paths:
        labels["heat_ref"] = _reference_heats(collection, paths)
    return labels


def verified_csv(path: Path) -> bytes:
    """Return the content of one of CDVAE's three CSV files, gzipped or not, after verification.

    Raises:
        DamagedFileError: If the file cannot be read or is a different one.
    """
    content = read_content(path)
    if content_checksums(content).isdisjoint({*_CSV_SHA256.values(), _TRAIN_GIT_BLOB}):
        raise DamagedFileError(
            f"Expected one of CDVAE's three Perov-5 files, got a different or damaged "
            f"file {path}. Download it again."
        )
    return content


def _grid_labels(
    collection: CrystalCollection, path: Path, checksum: str, names: dict[str, str]
) -> dict[str, np.ndarray]:
    """Return some labels of one of the two DFT files by the elements of the crystals."""
    content = _verified(path, checksum)
    cache = _cache_path(checksum)
    if cache.is_file():
        arrays = load_arrays(cache)
        elements, values = arrays["elements"], arrays["values"]
    else:
        elements, values = read_label_grid(content, path)
        _save(cache, {"elements": elements, "values": values})
    rows = _find_rows(elements, collection.atomic_numbers)
    found = np.where(rows[:, None] < 0, np.nan, values[rows])
    return {label: found[:, COLUMNS.index(column)] for column, label in names.items()}


def _find_rows(elements: np.ndarray, crystals: np.ndarray) -> np.ndarray:
    """Find crystals by A, B and the set of their anions.

    Args:
        elements: Atomic numbers of A, B and of the anions in ascending order, (K, 5).
        crystals: Atomic numbers of A, B, X1, X2 and X3, (C, 5).

    Returns:
        Rows of ``elements``, (C,), -1 where no row has these elements.
    """
    base = 128 ** np.arange(elements.shape[1])
    keys = elements.astype(np.int64) @ base
    crystals = np.column_stack([crystals[:, :2], np.sort(crystals[:, 2:], axis=1)])
    wanted = crystals.astype(np.int64) @ base
    order = np.argsort(keys)
    place = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    return np.where(keys[order][place] == wanted, order[place], -1)


def _reference_heats(collection: CrystalCollection, paths: list[Path]) -> np.ndarray:
    """Return the label ``heat_ref``, float64 (C,), NaN for crystals of missing files."""
    heats: dict[str, float] = {}
    for path in paths:
        content = verified_csv(path)
        cache = _cache_path(hashlib.sha256(content).hexdigest())
        if cache.is_file():
            arrays = load_arrays(cache)
        else:
            rows = list(csv.DictReader(io.StringIO(content.decode())))
            arrays = {
                "ids": np.array([row["material_id"] for row in rows]),
                "heat_ref": np.array([float(row["heat_ref"]) for row in rows]),
            }
            _save(cache, arrays)
        heats.update(zip(arrays["ids"].tolist(), arrays["heat_ref"].tolist(), strict=True))
    return np.array([heats.get(crystal, np.nan) for crystal in collection.ids.tolist()])


def _verified(path: Path, checksum: str) -> bytes:
    """Return the content of a file whose SHA-256 is as expected."""
    content = read_content(path)
    found = hashlib.sha256(content).hexdigest()
    if found != checksum:
        raise DamagedFileError(
            f"{path} is damaged or another version: expected the SHA-256 {checksum}, got {found}. "
            "Delete it and download it again."
        )
    return content


def _cache_path(checksum: str) -> Path:
    return settings.cache_folder() / "prepared" / f"perov-5-labels-{_FORMAT}-{checksum[:16]}.npz"


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Cache arrays if the cache folder can be written; they are parsed again otherwise."""
    try:
        save_arrays(path, arrays)
    except StorageError as error:
        _log.info("The parsed labels are not cached: %s", error)
