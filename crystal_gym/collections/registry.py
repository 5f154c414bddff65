"""Crystal collections by name, file, folder or list of structures."""

from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from crystal_gym.collections.collection import SPLITS, CrystalCollection
from crystal_gym.errors import CrystalGymError, UnknownNameError

if TYPE_CHECKING:
    from pymatgen.core import Structure

    # The origins that `load_collection` accepts.
    CollectionLike = str | Path | CrystalCollection | Sequence[Structure | str | Path]

# Modules of this package by collection name; each has `load(progress=...)` and `DESCRIPTION`.
_MODULES = {"goldschmidt": "goldschmidt", "perov-5": "perov5", "mp-20": "mp20"}

COLLECTIONS: tuple[str, ...] = tuple(_MODULES)

SPLIT_BY = ("origin", "composition")


def describe_collection(name: str) -> str:
    """Return a sentence on a named collection without loading it.

    Raises:
        UnknownNameError: If there is no such collection.
    """
    return _module(name).DESCRIPTION


def canonical_origin(origin: str | Path) -> str:
    """Return an origin that is valid from any folder: a name unchanged, or an absolute path."""
    return str(origin if origin in COLLECTIONS else Path(origin).expanduser().resolve())


def load_collection(
    origin: "CollectionLike",
    *,
    split_by: str = "origin",
    progress: bool = True,
) -> CrystalCollection:
    """Load a collection by name, or from a file, a folder or a list.

    Args:
        origin: A name in ``COLLECTIONS``; the path of a CDVAE-format CSV file, of a folder with
            ``train.csv``, ``val.csv`` and ``test.csv``, of a folder of CIF files, or of a CIF
            file; a list of paths of CIF files; a list of pymatgen structures; or a collection,
            which is returned unchanged.
        split_by: ``origin`` keeps the splits of the origin. ``composition`` splits again so that
            all crystals with one composition are in the same split.
        progress: Show progress bars for downloads and preparation.

    Raises:
        UnknownNameError: If the origin is neither a known name nor an existing path, or
            ``split_by`` is unknown.
        MissingDataError: If a required file is missing and cannot be downloaded.
        DamagedFileError: If a file of the origin or of the cache is damaged.
        BadCrystalError: If a crystal has no valid skeleton.
        CrystalGymError: If the origin has another type.
    """
    if split_by not in SPLIT_BY:
        raise UnknownNameError("split_by", split_by, SPLIT_BY)
    collection = _load(origin, progress)
    return collection.split_by_composition() if split_by == "composition" else collection


def _load(origin: "CollectionLike", progress: bool) -> CrystalCollection:
    if isinstance(origin, CrystalCollection):
        return origin
    if isinstance(origin, str) and origin in _MODULES:
        return _module(origin).load(progress=progress)
    if isinstance(origin, str | Path):
        path = Path(origin).expanduser()
        if not path.exists():
            raise UnknownNameError("collection, file or folder", origin, COLLECTIONS)
        if path.is_dir() and not _holds_tables(path):
            from crystal_gym.collections.cif_folder import load_cif_folder

            return load_cif_folder(path, progress=progress)
        from crystal_gym.collections.cif_folder import is_cif, load_cif_files

        if is_cif(path):
            from crystal_gym.collections.preparation import collection_name

            return load_cif_files([path], name=collection_name(path), progress=progress)
        from crystal_gym.collections.cdvae_csv import load_cdvae_csv

        return load_cdvae_csv(path, progress=progress)
    if not isinstance(origin, Iterable):
        raise CrystalGymError(
            "Expected the name or the path of a collection, or a list of CIF files or structures, "
            f"got {origin!r}."
        )
    crystals = list(origin)
    paths = [crystal for crystal in crystals if isinstance(crystal, str | Path)]
    if paths and len(paths) == len(crystals):
        from crystal_gym.collections.cif_folder import load_cif_files

        return load_cif_files(paths, progress=progress)
    from crystal_gym.collections.structures import collection_from_structures

    return collection_from_structures(crystals, progress=progress)  # type: ignore[arg-type] - it rejects others


def _holds_tables(folder: Path) -> bool:
    """Return whether a folder contains the CSV files of a collection.

    If the folder also contains CIF files, only CSV files with the name of a split count.
    """
    if any((folder / f"{split}.csv{gz}").is_file() for split in SPLITS for gz in ("", ".gz")):
        return True
    from crystal_gym.collections.cif_folder import is_cif

    return any(folder.glob("*.csv*")) and not any(map(is_cif, folder.rglob("*")))


def _module(name: str) -> ModuleType:
    if name not in _MODULES:
        raise UnknownNameError("collection", name, COLLECTIONS)
    return import_module(f"crystal_gym.collections.{_MODULES[name]}")
