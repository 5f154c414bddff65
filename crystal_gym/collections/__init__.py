"""Crystal collections by name: one file per source."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from crystal_gym.collection import CrystalCollection
from crystal_gym.errors import UnknownNameError

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Name of a collection → module of this package; each has `load(progress=…)` and `DESCRIPTION`.
_MODULES = {"goldschmidt": "goldschmidt", "perov-5": "perov5", "mp-20": "mp20"}

COLLECTIONS: tuple[str, ...] = tuple(_MODULES)


def describe_collection(name: str) -> str:
    """One sentence on a named collection, without loading it."""
    return _module(name).DESCRIPTION


def load_collection(
    source: "str | Path | Sequence[Structure] | CrystalCollection",
    *,
    split_by: str = "source",
    progress: bool = True,
) -> CrystalCollection:
    """The collection of this name, file, folder or list of structures.

    Args:
        source: a name of ``COLLECTIONS``; the path of a CDVAE-format CSV, of a folder with
            ``train.csv``, ``val.csv``, ``test.csv``, or of a folder of CIFs; or pymatgen
            structures.
        split_by: ``source`` keeps the source's own splits; ``composition`` splits anew so that all
            crystals of one composition share a split.
        progress: show progress bars for downloads and preparation.

    Raises:
        UnknownNameError: neither a known name nor an existing path, or an unknown ``split_by``.
        MissingDataError: a source file is not at hand and cannot be downloaded.
        DamagedFileError: a source or cached file is damaged.
        BadCrystalError: a crystal cannot be used.
    """
    if split_by not in {"source", "composition"}:
        raise UnknownNameError("split_by", split_by, ("source", "composition"))
    collection = _load(source, progress)
    return collection.split_by_composition() if split_by == "composition" else collection


def _load(source: "str | Path | Sequence[Structure] | CrystalCollection", progress: bool):  # noqa: ANN202
    if isinstance(source, CrystalCollection):
        return source
    if isinstance(source, str) and source in _MODULES:
        return _module(source).load(progress=progress)
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if not path.exists():
            raise UnknownNameError("collection (nor is it a file or folder)", source, COLLECTIONS)
        if path.is_dir() and not any(path.glob("*.csv*")):
            from crystal_gym.collections.cif_folder import load_cif_folder

            return load_cif_folder(path, progress=progress)
        from crystal_gym.collections.cdvae_csv import load_cdvae_csv

        return load_cdvae_csv(path, progress=progress)
    from crystal_gym.collections.structures import collection_from_structures

    return collection_from_structures(source, progress=progress)


def _module(name: str):  # noqa: ANN202 - a module
    if name not in _MODULES:
        raise UnknownNameError("collection", name, COLLECTIONS)
    loader: Callable = import_module
    return loader(f"crystal_gym.collections.{_MODULES[name]}")
