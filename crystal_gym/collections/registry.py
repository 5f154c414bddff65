"""Crystal collections by name: one file per source."""

from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from crystal_gym.collections.collection import SPLITS, CrystalCollection
from crystal_gym.errors import CrystalGymError, UnknownNameError

if TYPE_CHECKING:
    from pymatgen.core import Structure

    # What `load_collection` takes; it tells more.
    CollectionLike = str | Path | CrystalCollection | Sequence[Structure | str | Path]

# Name of a collection → module of this package; each has `load(progress=…)` and `DESCRIPTION`.
_MODULES = {"goldschmidt": "goldschmidt", "perov-5": "perov5", "mp-20": "mp20"}

COLLECTIONS: tuple[str, ...] = tuple(_MODULES)

SPLIT_BY = ("origin", "composition")


def describe_collection(name: str) -> str:
    """One sentence on a named collection, without loading it."""
    return _module(name).DESCRIPTION


def canonical_origin(origin: str | Path) -> str:
    """A name as it is, a path in full: what finds the same collection from any folder."""
    return str(origin if origin in COLLECTIONS else Path(origin).expanduser().resolve())


def load_collection(
    origin: "CollectionLike",
    *,
    split_by: str = "origin",
    progress: bool = True,
) -> CrystalCollection:
    """The collection of this name, file, folder, list of CIF files or list of structures.

    Args:
        source: a name of ``COLLECTIONS``; the path of a CDVAE-format CSV, of a folder with
            ``train.csv``, ``val.csv``, ``test.csv``, of a folder of CIFs, or of a CIF; a list of
            paths of CIFs; or a list of pymatgen structures.
        split_by: ``source`` keeps the source's own splits; ``composition`` splits anew so that all
            crystals of one composition share a split.
        progress: show progress bars for downloads and preparation.

    Raises:
        UnknownNameError: neither a known name nor an existing path, or an unknown ``split_by``.
        MissingDataError: a source file is not at hand and cannot be downloaded.
        DamagedFileError: a source or cached file is damaged.
        BadCrystalError: a crystal cannot be used.
        CrystalGymError: none of these.
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
            raise UnknownNameError("collection (nor is it a file or folder)", origin, COLLECTIONS)
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
            f"A collection is a name, a path, a list of CIF files or of structures, not {origin!r}."
        )
    crystals = list(origin)
    paths = [crystal for crystal in crystals if isinstance(crystal, str | Path)]
    if paths and len(paths) == len(crystals):
        from crystal_gym.collections.cif_folder import load_cif_files

        return load_cif_files(paths, progress=progress)
    from crystal_gym.collections.structures import collection_from_structures

    return collection_from_structures(crystals, progress=progress)  # type: ignore[arg-type] - it refuses others


def _holds_tables(folder: Path) -> bool:
    """Whether a folder is one of CSV files; beside CIF files only those of a split count."""
    if any((folder / f"{split}.csv{gz}").is_file() for split in SPLITS for gz in ("", ".gz")):
        return True
    from crystal_gym.collections.cif_folder import is_cif

    return any(folder.glob("*.csv*")) and not any(map(is_cif, folder.rglob("*")))


def _module(name: str) -> ModuleType:
    if name not in _MODULES:
        raise UnknownNameError("collection", name, COLLECTIONS)
    return import_module(f"crystal_gym.collections.{_MODULES[name]}")
