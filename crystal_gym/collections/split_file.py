"""Splits that a CSV or JSON file assigns to the crystals of a collection."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from crystal_gym.collections.collection import SPLITS, CrystalCollection
from crystal_gym.collections.csv_table import is_csv, read_rows
from crystal_gym.collections.preparation import collection_name
from crystal_gym.collections.split_names import split_of
from crystal_gym.errors import CrystalGymError, DamagedFileError, MissingDataError
from crystal_gym.formats.text import read_text

_COLUMNS = ("material_id", "split")
_FORMATS = (
    "Use a CSV file with the columns material_id and split, or a JSON file with one object whose "
    "keys train, val and test have lists of ids."
)


def split_by_file(collection: CrystalCollection, path: str | Path) -> CrystalCollection:
    """Return the same crystals in the splits that a file assigns to them.

    A CSV file has the columns ``material_id`` and ``split``; other columns are not read. A JSON
    file has one object with the keys ``train``, ``val`` and ``test``, whose values are lists of
    ids. The names of splits have the synonyms of ``split_of``. Files can be compressed.

    Args:
        collection: The crystals.
        path: The file, which ends in ``.csv`` or ``.json``, also compressed.

    Raises:
        MissingDataError: If there is no such file.
        DamagedFileError: If the file cannot be read or has another format.
        CrystalGymError: If the file has an id that is not in the collection, an id twice, or an
            unknown split; or if it lacks a crystal of the collection or has no crystals of a split.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingDataError(
            f"Expected a file with splits of {collection.name!r}, got no file at {path}. Pass the "
            "path of the file as split_by."
        )
    found = _read_splits(path, collection)
    missing = [str(crystal) for crystal in collection.ids if str(crystal) not in found]
    if missing:
        raise CrystalGymError(
            f"{path}: expected a split for each of the {len(collection):,} crystals of "
            f"{collection.name!r}, got none for {len(missing):,} of them, such as {missing[0]!r}. "
            "Add them to the file."
        )
    splits = np.array([found[str(crystal)] for crystal in collection.ids])
    empty = [split for split in SPLITS if split not in splits]
    if empty:
        raise CrystalGymError(
            f"{path}: expected crystals in {', '.join(SPLITS)}, got none in {', '.join(empty)}. "
            "Assign crystals to each split."
        )
    # `file` distinguishes a file `composition.csv` from splits by composition.
    return collection.with_splits(
        splits, f"file-{collection_name(path)}", f"Splits of the file {path.name}."
    )


def _read_splits(path: Path, collection: CrystalCollection) -> dict[str, str]:
    """Return the split of each crystal in a file by its id."""
    known = {str(crystal) for crystal in collection.ids}
    splits: dict[str, str] = {}
    for where, crystal, name in (_csv_entries if is_csv(path) else _json_entries)(path):
        split = split_of(name)
        if split is None:
            raise CrystalGymError(
                f"{where}: expected a split among {', '.join(SPLITS)}, got {name!r}. Correct the "
                "name."
            )
        if crystal not in known:
            raise CrystalGymError(
                f"{where}: expected the id of a crystal of {collection.name!r}, such as "
                f"{str(collection.ids[0])!r}, got {crystal!r}. Remove it, or pass another "
                "collection or split_by."
            )
        if crystal in splits:
            raise CrystalGymError(
                f"{where}: expected distinct ids, got {crystal!r} a second time. Remove one of "
                "the entries."
            )
        splits[crystal] = split
    return splits


def _csv_entries(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the place, the id and the split of each row."""
    header, rows = read_rows(path, _COLUMNS, _FORMATS)
    id_column, split_column = (header.index(name) for name in _COLUMNS)
    for number, row in enumerate(rows, start=1):
        where = f"{path}, row {number}"
        if len(row) != len(header):
            raise DamagedFileError(
                f"{where}: expected {len(header)} entries as in the header, got {len(row)}. "
                "Correct the row."
            )
        yield where, row[id_column].strip(), row[split_column]


def _json_entries(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the place, the id and the split of each entry of the lists."""
    text = read_text(path)
    try:
        content: Any = json.loads(text)
    except ValueError as error:
        raise DamagedFileError(
            f"{path}: expected valid JSON, got an error: {error}. Correct the file."
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(listed, list) for listed in content.values()
    ):
        raise DamagedFileError(
            f"{path}: expected one object with lists of ids, got other content. {_FORMATS}"
        )
    for name, listed in content.items():
        for number, crystal in enumerate(listed, start=1):
            where = f"{path}, {name}, entry {number}"
            if not isinstance(crystal, str | int) or isinstance(crystal, bool):
                raise DamagedFileError(
                    f"{where}: expected an id as a string or an integer, got {crystal!r}. Correct "
                    "the entry."
                )
            yield where, str(crystal), name
