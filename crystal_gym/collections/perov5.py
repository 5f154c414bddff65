"""Perov-5: 18,928 perovskites, all combinations of two cations with seven anion sets.

The structures and labels are from Castelli et al., Energy Environ. Sci. 5, 9034 (2012); the split,
site order and CSV files are from CDVAE (Xie et al., ICLR 2022). The structures are read from a JSON
file with the same split, which groups atoms by element. CDVAE's order A, B, X1, X2, X3 is restored
from the positions.
"""

import csv
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystal_gym.collections.collection import SPLITS, CrystalCollection
from crystal_gym.collections.preparation import prepared_collection
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.errors import BadCrystalError, DamagedFileError
from crystal_gym.utils.files import RemoteFile, fetch, find_cached, sha256

if TYPE_CHECKING:
    from pymatgen.core import Structure

DESCRIPTION = (
    "Perov-5: 18,928 cubic-cell perovskites with DFT-relaxed geometry (Castelli et al. 2012), "
    "52 cations on A and B, 7 anion sets, CDVAE's split 11,356 / 3,787 / 3,785."
)

# The 56 elements of the collection, by atomic number.
ELEMENTS: tuple[str, ...] = tuple(
    """
    Li Be B N O F Na Mg Al Si S K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Rb Sr Y Zr Nb Mo Ru Rh Pd
    Ag Cd In Sn Sb Te Cs Ba La Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi
    """.split()
)

STRUCTURES = RemoteFile(
    name="perov5_heat_ref.json.zip",
    url="https://raw.githubusercontent.com/atomgptlab/jarvis_leaderboard/"
    "ca31657372d73f109ebb5e09bd0cf40463762201/jarvis_leaderboard/benchmarks/AI/AtomGen/"
    "perov5_heat_ref.json.zip",
    checksum="8528dc28a3cd282f2d6eff2ad027306e16b40a03c80b21b5f3eedd92b39d561e",
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
LABELS = {
    split: RemoteFile(
        name=f"perov_5_{split}.csv",
        url=f"{_CDVAE}{split}.csv",
        checksum=_CSV_SHA256.get(split),
        aliases=(f"cdvae_{split}.csv", f"cdvae_{split}.csv.gz"),
        common_names=(f"{split}.csv", f"{split}.csv.gz"),
    )
    for split in SPLITS
}
# DFT labels: heats of formation with two references (eV/atom), direct and indirect gaps (eV).
LABEL_NAMES = ("heat_all", "heat_ref", "dir_gap", "ind_gap")

_ANIONS = {"N", "O", "F", "S"}
# (is an anion, y, z) of the sites A, B, X1, X2, X3; displacements are along x only.
_SITES = (
    (False, 0.0, 0.0),
    (False, 0.5, 0.5),
    (True, 0.0, 0.5),
    (True, 0.5, 0.0),
    (True, 0.5, 0.5),
)


def load(*, download_labels: bool = False, progress: bool = True) -> CrystalCollection:
    """Load Perov-5 from a local copy, the cache or a download.

    Args:
        download_labels: Download CDVAE's CSV files for the DFT labels. Otherwise, labels are read
            for the splits whose files are available.
        progress: Show progress bars.

    Raises:
        DownloadError: If a required file is missing and cannot be downloaded.
        DamagedFileError: If a file does not match its checksum.
    """
    path = fetch(STRUCTURES, "perov_5", progress=progress)
    collection = prepared_collection(
        "perov-5",
        sha256(path),
        lambda: read_structures(path),
        order=abx3_order,
        description=DESCRIPTION,
        progress=progress,
    )
    found = {
        split: fetch_labels(split, progress=progress)
        if download_labels
        else find_cached(LABELS[split], "perov_5")
        for split in SPLITS
    }
    collection.labels.update(_read_labels(collection, [p for p in found.values() if p]))
    return collection


def fetch_labels(split: str, *, progress: bool = True) -> Path:
    """Return CDVAE's verified CSV file of one split: a local copy, gzipped or not, or a download.

    Raises:
        DownloadError: If the file is missing and cannot be downloaded.
        DamagedFileError: If the file does not match its checksum.
    """
    path = find_cached(LABELS[split], "perov_5")
    path = path or fetch(LABELS[split], "perov_5", progress=progress)
    _verified_csv(path)
    return path


def abx3_order(structure: "Structure") -> np.ndarray:
    """Return CDVAE's site order A, B, X1, X2, X3, from the kind of ion and from y and z, (5,).

    Raises:
        BadCrystalError: If the structure is not a perovskite of Perov-5.
    """
    sites = [
        (str(site.specie) in _ANIONS, round(y % 1, 4) % 1, round(z % 1, 4) % 1)
        for site, (_, y, z) in zip(structure, structure.frac_coords, strict=True)
    ]
    if sorted(sites) != sorted(_SITES):
        raise BadCrystalError(
            "Expected a Perov-5 cell with cations at (x, 0, 0) and (x, ½, ½) and anions at "
            f"(x, 0, ½), (x, ½, 0) and (x, ½, ½), got {structure.formula} with other sites."
        )
    return np.array([sites.index(site) for site in _SITES])


def read_structures(path: Path) -> list[RawCrystal]:
    """Read the crystals of a verified file ``STRUCTURES``."""
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("perov5_heat_ref.json"))
    return [
        RawCrystal(
            id=crystal,
            split=split,
            content=poscar.replace("\\n", "\n"),
            format="poscar",
            where=f"{path.name}, {split}",
        )
        for split in SPLITS
        for crystal, poscar in data[split].items()
    ]


def _read_labels(collection: CrystalCollection, paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Read the labels, float64 (C,), NaN for crystals that are not in the files."""
    labels = {name: np.full(len(collection), np.nan) for name in LABEL_NAMES} if paths else {}
    for path in paths:
        for row in csv.DictReader(io.StringIO(_verified_csv(path))):
            crystal = collection.index(row["material_id"])
            for name in LABEL_NAMES:
                labels[name][crystal] = float(row[name])
    return labels


def _verified_csv(path: Path) -> str:
    """Return the text of one of CDVAE's three CSV files, gzipped or not, after verification."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise DamagedFileError(f"{path} cannot be read: {error}. Download it again.") from error
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if hashlib.sha256(content).hexdigest() not in _CSV_SHA256.values() and blob != _TRAIN_GIT_BLOB:
        raise DamagedFileError(
            f"Expected one of CDVAE's three Perov-5 files, got a different or damaged "
            f"file {path}. Download it again."
        )
    return content.decode()
