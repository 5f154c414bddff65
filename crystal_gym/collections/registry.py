"""Crystal collections by name, file, folder, or structures."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.collections.split_kinds import canonical_split_by, is_split_file, split_seed
from crystal_gym.errors import CrystalGymError, UnknownNameError

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import IStructure, Structure

    # One crystal; documents, objects with an attribute `structure`, have no common class.
    StructureLike = str | PathLike | Structure | IStructure | Atoms | Mapping[str, Any] | Any
    # The origins that `load_collection` accepts.
    CollectionLike = str | PathLike | CrystalCollection | StructureLike | Iterable[StructureLike]

# Modules of this package by collection name; each has `load(progress=...)` and `DESCRIPTION`.
_MODULES = {"goldschmidt": "goldschmidt", "perov-5": "perov5", "mp-20": "mp20"}

COLLECTIONS: tuple[str, ...] = tuple(_MODULES)


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
    split_by: str | PathLike[str] = "origin",
    on_error: str = "raise",
    progress: bool = True,
) -> CrystalCollection:
    """Load a collection by name, or from files, a folder or objects.

    Structure files are CIF, POSCAR, extended XYZ, and JSON of pymatgen structures or Materials
    Project documents, also compressed. Objects are pymatgen ``Structure`` and ``IStructure``, their
    ``as_dict()``, ``ase.Atoms``, and objects or dictionaries with a structure, such as summary
    documents of the Materials Project.

    Args:
        origin: A name in ``COLLECTIONS``; the path of a CDVAE-format CSV file, of a folder with
            ``train.csv``, ``val.csv`` and ``test.csv``, of a folder of structure files, or of a
            structure file; an object with a structure; a list or another iterable of such paths
            and objects; or a collection, which is returned unchanged.
        split_by: ``origin`` keeps the splits of the origin. ``composition`` splits again so that
            all crystals with one composition are in the same split, and ``prototype`` so that all
            crystals with one space group, anonymous formula and number of sites are.
            ``random:SEED``, such as ``random:7``, draws random splits of the origin's sizes. The
            path of a CSV or JSON file assigns a split to each id; see
            ``crystal_gym.collections.split_file``.
        on_error: ``raise`` an error for crystals that cannot be read, or ``skip`` them: one
            ``ParserWarning`` reports them, and the attribute ``excluded`` of the collection lists
            them.
        progress: Show progress bars for downloads and preparation.

    Raises:
        UnknownNameError: If the origin is neither a known name nor an existing path, or
            ``split_by`` or ``on_error`` is unknown.
        MissingDataError: If a required file is missing and cannot be downloaded.
        DamagedFileError: If a file of the origin or of the cache, or the split file, is damaged.
        BadCrystalError: If a crystal has no valid skeleton and ``on_error`` is ``raise``, or if no
            crystal has one.
        CrystalGymError: If the origin has another type, files of a folder would be left out, the
            seed of random splits is invalid, or a split file does not fit the crystals.
    """
    split_by = canonical_split_by(split_by)
    if on_error not in ("raise", "skip"):
        raise UnknownNameError("on_error", on_error, ("raise", "skip"))
    collection = _load(origin, on_error, progress)
    return _split(collection, split_by, progress)


def _split(collection: CrystalCollection, split_by: str, progress: bool) -> CrystalCollection:
    if is_split_file(split_by):
        from crystal_gym.collections.split_file import split_by_file

        return split_by_file(collection, split_by)
    seed = split_seed(split_by)
    if seed is not None:
        return collection.split_at_random(seed)
    if split_by == "composition":
        return collection.split_by_composition()
    if split_by == "prototype":
        from crystal_gym.collections.prototypes import split_by_prototype

        return split_by_prototype(collection, progress=progress)
    return collection


def _load(origin: "CollectionLike", on_error: str, progress: bool) -> CrystalCollection:
    if isinstance(origin, CrystalCollection):
        return origin
    if isinstance(origin, str) and origin in _MODULES:
        return _module(origin).load(progress=progress)
    if isinstance(origin, str | PathLike):
        return _load_path(origin, on_error, progress)
    from crystal_gym.collections.structures import collection_from_structures
    from crystal_gym.formats.objects import SUPPORTED_OBJECTS, is_structure_object

    if is_structure_object(origin):
        return collection_from_structures([origin], on_error=on_error, progress=progress)
    if not isinstance(origin, Iterable) or isinstance(origin, Mapping | bytes):
        raise CrystalGymError(
            "Expected the name or the path of a collection, a structure, or a list of structures "
            f"or paths, got {_shorten(repr(origin))}. Structures are {SUPPORTED_OBJECTS}."
        )
    crystals = list(origin)
    paths = [crystal for crystal in crystals if isinstance(crystal, str | PathLike)]
    if paths and len(paths) == len(crystals):
        from crystal_gym.collections.structure_files import load_structure_files

        return load_structure_files(paths, on_error=on_error, progress=progress)
    return collection_from_structures(crystals, on_error=on_error, progress=progress)


def _load_path(origin: str | PathLike, on_error: str, progress: bool) -> CrystalCollection:
    from crystal_gym.formats.structure_file import as_path

    path = as_path(origin)
    if not path.exists():
        raise UnknownNameError("collection, file or folder", str(origin), COLLECTIONS)
    from crystal_gym.collections.csv_table import is_csv

    if is_csv(path) or (path.is_dir() and _holds_tables(path)):
        from crystal_gym.collections.cdvae_csv import load_cdvae_csv

        return load_cdvae_csv(path, on_error=on_error, progress=progress)
    from crystal_gym.collections.structure_files import load_structure_files, load_structure_folder

    if path.is_dir():
        return load_structure_folder(path, on_error=on_error, progress=progress)
    from crystal_gym.collections.preparation import collection_name
    from crystal_gym.formats.file_formats import SUPPORTED, is_structure_file

    if not is_structure_file(path):
        raise CrystalGymError(
            f"Expected a file with crystals, got {path}. Supported formats are CSV in CDVAE's "
            f"format (.csv), {SUPPORTED}."
        )
    name = collection_name(path)
    return load_structure_files([path], name=name, on_error=on_error, progress=progress)


def _holds_tables(folder: Path) -> bool:
    from crystal_gym.collections.folder_contents import folder_contents

    return bool(folder_contents(folder).tables)


def _shorten(text: str) -> str:
    return text if len(text) < 200 else f"{text[:200]}…"


def _module(name: str) -> ModuleType:
    if name not in _MODULES:
        raise UnknownNameError("collection", name, COLLECTIONS)
    return import_module(f"crystal_gym.collections.{_MODULES[name]}")
