"""Perov-5: 18,928 perovskites, all combinations of two cations with seven anion sets.

The structures and labels are from Castelli et al., Energy Environ. Sci. 5, 9034 (2012); the split
and site order are from CDVAE (Xie et al., ICLR 2022). The structures are read from a JSON file with
the same split, which groups atoms by element. CDVAE's order A, B, X1, X2, X3 is restored from the
positions. ``perov5_labels`` reads the labels.
"""

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystal_gym.collections.collection import SPLITS, CrystalCollection
from crystal_gym.collections.perov5_labels import read_labels
from crystal_gym.collections.preparation import prepared_collection
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.errors import BadCrystalError
from crystal_gym.utils.files import RemoteFile, fetch, sha256

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
        download_labels: Download missing files of DFT labels. Otherwise, labels are read from local
            copies and earlier downloads; see ``crystal_gym.collections.perov5_labels``.
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
    collection.labels.update(read_labels(collection, download=download_labels, progress=progress))
    return collection


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
