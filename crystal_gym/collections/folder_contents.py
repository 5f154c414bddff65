"""The files of a folder that contain crystals, and those that do not."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from crystal_gym.collections.collection import SPLITS
from crystal_gym.collections.csv_table import contains_crystals, is_csv
from crystal_gym.collections.split_names import split_of
from crystal_gym.errors import CrystalGymError, MissingDataError
from crystal_gym.formats.file_formats import (
    SUPPORTED,
    crystal_name,
    file_format,
    is_structure_file,
    without_compression,
)

# Formats whose files can have several crystals, so that their names can be those of splits.
_SEVERAL = ("extxyz", "json")
# Names of files about the crystals or of the operating system, which no warning lists.
_EXPECTED = re.compile(
    r"(\.|__macosx|~|readme|licen[cs]e|citation|changelog|authors|thumbs\.db$|desktop\.ini$)|.*\.md$",
    re.IGNORECASE,
)
# Number of files that an error lists.
_MOST_SHOWN = 10


@dataclass
class FolderContents:
    """The files with crystals in a folder.

    Attributes:
        tables: CSV files by split.
        structures: Structure files with their splits, in the order of the splits and names.
        ignored: Names of files of other formats.
    """

    tables: dict[str, Path] = field(default_factory=dict)
    structures: list[tuple[Path, str]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


@dataclass
class _Places:
    """The files of a folder and of its split folders by kind."""

    structures: list[tuple[Path, str | None]] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    unexpected: list[Path] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)


def folder_contents(folder: Path) -> FolderContents:
    """Find the CSV files or structure files of a folder.

    Raises:
        MissingDataError: If the folder contains no crystals.
        CrystalGymError: If files with crystals would be left out, or the split of files is
            ambiguous; the message lists the files.
    """
    places = _find_files(folder)
    if places.structures:  # tables of properties beside structure files contain no crystals
        tables = [path for path in places.tables if contains_crystals(path)]
        places.ignored += [path for path in places.tables if path not in tables]
        places.unexpected += tables
        contents = FolderContents(structures=_with_splits(folder, places))
    else:
        contents = FolderContents(tables=_tables_by_split(folder, places))
    if not contents.structures and not contents.tables:
        _raise_missing(folder, places)
    if places.unexpected:
        kind = "structure files" if contents.structures else "CSV files with the names of splits"
        raise CrystalGymError(
            f"Expected all crystals of {folder} in {kind} in the folder itself"
            f"{' or in its subfolders train, val and test' if contents.structures else ''}; "
            f"{_list_files(folder, places.unexpected)} would be left out. Move or rename these "
            "files, or pass the paths of all files as a list."
        )
    contents.ignored = [_relative(folder, path) for path in sorted(places.ignored)]
    return contents


def _find_files(folder: Path) -> _Places:
    places = _Places()
    split_folders: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        split = split_of(entry.name)
        if not entry.is_dir():
            _add_file(entry, places, None)
        elif split is None:
            _add_tree(entry, places)
        else:
            files = [path for path in sorted(entry.iterdir()) if not _EXPECTED.match(path.name)]
            if files and split in split_folders:
                _raise_repeated(folder, split, split_folders[split], entry)
            if files:
                split_folders[split] = entry
            for file in files:
                if file.is_dir():
                    _add_tree(file, places)
                elif is_csv(file) and contains_crystals(file):
                    places.unexpected.append(file)
                else:
                    _add_file(file, places, split)
    return places


def _add_file(file: Path, places: _Places, split: str | None) -> None:
    if is_structure_file(file):
        places.structures.append((file, split))
    elif is_csv(file) and split is None:
        places.tables.append(file)
    elif not _EXPECTED.match(file.name):
        places.ignored.append(file)


def _add_tree(folder: Path, places: _Places) -> None:
    """Add the files of a folder whose crystals are not read."""
    if _EXPECTED.match(folder.name):
        return
    for file in sorted(folder.rglob("*")):
        if file.is_dir() or any(map(_EXPECTED.match, file.relative_to(folder).parts)):
            continue
        crystals = is_structure_file(file) or (is_csv(file) and contains_crystals(file))
        (places.unexpected if crystals else places.ignored).append(file)


def _with_splits(folder: Path, places: _Places) -> list[tuple[Path, str]]:
    """Return the structure files with their splits: by folder, by name, or ``train``."""
    named: dict[str, Path] = {}
    found: list[tuple[Path, str]] = []
    single = []
    for file, split in places.structures:
        own = split_of(crystal_name(file)) if file_format(file) in _SEVERAL else None
        if split is None and own is not None:
            if own in named:
                _raise_repeated(folder, own, named[own], file)
            named[own] = file
        elif split is None:
            single.append(file)
        found.append((file, split or own or "train"))
    subfolders = {split: file.parent for file, split in places.structures if split is not None}
    for split in named.keys() & subfolders.keys():
        _raise_repeated(folder, split, named[split], subfolders[split])
    if named and single:
        raise CrystalGymError(
            f"Expected the name of a split for each file in {folder}, as for "
            f"{', '.join(path.name for path in named.values())}; {_list_files(folder, single)} "
            "have other names. Rename them, or move them to subfolders train, val and test."
        )
    return sorted(found, key=lambda pair: (SPLITS.index(pair[1]), pair[0].parent != folder))


def _tables_by_split(folder: Path, places: _Places) -> dict[str, Path]:
    tables: dict[str, Path] = {}
    others = []
    for path in places.tables:
        split = split_of(Path(without_compression(path.name)).stem)
        if split is None:
            others.append(path)
        elif split in tables:
            _raise_repeated(folder, split, tables[split], path)
        else:
            tables[split] = path
    for path in others:
        (places.unexpected if contains_crystals(path) else places.ignored).append(path)
    return {split: tables[split] for split in SPLITS if split in tables}


def _raise_repeated(folder: Path, split: str, first: Path, second: Path) -> None:
    raise CrystalGymError(
        f"Expected one file or folder in {folder} for the split {split}, got "
        f"{_relative(folder, first)} and {_relative(folder, second)}. Remove or merge one of them."
    )


def _raise_missing(folder: Path, places: _Places) -> None:
    found = places.unexpected + places.ignored
    got = f"got only {_list_files(folder, found)}" if found else "got no files"
    raise MissingDataError(
        f"Expected crystals in {folder}: train.csv, val.csv and test.csv (or .csv.gz), or "
        f"structure files in the folder or its subfolders train, val and test; {got}. Formats of "
        f"structure files are {SUPPORTED}. Use the path of a CSV file to read a file with another "
        "name."
    )


def _list_files(folder: Path, files: list[Path]) -> str:
    names = [_relative(folder, path) for path in files]
    more = f" and {len(names) - _MOST_SHOWN:,} more" if len(names) > _MOST_SHOWN else ""
    count = f"{len(names):,} {'file' if len(names) == 1 else 'files'}"
    return f"{count} ({', '.join(names[:_MOST_SHOWN])}{more})"


def _relative(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()
