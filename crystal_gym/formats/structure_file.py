"""Crystals from files and objects in all supported formats."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from crystal_gym.errors import BadCrystalError, CrystalGymError
from crystal_gym.formats.extxyz import read_extxyz
from crystal_gym.formats.file_formats import SUPPORTED, crystal_name, require_format
from crystal_gym.formats.objects import (
    SUPPORTED_OBJECTS,
    is_structure_object,
    object_id,
    object_labels,
    read_object,
)
from crystal_gym.formats.parsed_structure import ParsedStructure
from crystal_gym.formats.poscar import read_poscar
from crystal_gym.formats.text import decode, read_bytes

# Formats of files with exactly one crystal; files of the others can have several.
SINGLE_FORMATS = ("cif", "poscar")


@dataclass(frozen=True)
class FileCrystal:
    """A crystal of a file with several crystals.

    Attributes:
        id: The identifier in the file, or the name of the file.
        content: An object that ``read_object`` reads.
        labels: Numeric properties by name.
    """

    id: str
    content: Any
    labels: Mapping[str, float] = field(default_factory=dict)


def read_structure(source: Any) -> ParsedStructure:
    """Read one crystal from a file or an object.

    Elements are not checked: the sites can have dummy species such as ``X``.

    Args:
        source: The path of a file: CIF, POSCAR, extended XYZ, or JSON of a pymatgen structure or a
            Materials Project document, also compressed; or a pymatgen ``Structure`` or
            ``IStructure``, its ``as_dict()``, ``ase.Atoms``, or an object or dictionary with an
            attribute or entry ``structure``.

    Returns:
        The structure, with its sites in the order of the file or object, and notices of harmless
        changes.

    Raises:
        DamagedFileError: If the file is missing or cannot be read.
        BadCrystalError: If the source is not one readable crystal, or the format is not supported.
        CrystalGymError: If the source has another type.
    """
    if not isinstance(source, str | PathLike):
        return read_object(source)
    path = as_path(source)
    text_format = require_format(path)
    content = read_bytes(path)
    try:
        if text_format in SINGLE_FORMATS:
            return read_single(content, text_format, str(path))
        return read_object(_only(read_several(content, text_format, path)).content)
    except BadCrystalError as error:
        raise BadCrystalError(f"{path}: {error}") from error


def _only(crystals: list[FileCrystal]) -> FileCrystal:
    if len(crystals) > 1:
        raise BadCrystalError(
            f"Expected a file with one crystal, got {len(crystals)}. Use a file or an object with "
            "one of them."
        )
    return crystals[0]


def as_path(source: str | PathLike) -> Path:
    """Return a path with the home folder in the place of ``~``.

    Raises:
        CrystalGymError: If a text is not a path but the content of a file.
    """
    if isinstance(source, str) and ("\n" in source or "\0" in source):
        raise CrystalGymError(
            f"Expected the path of a file, got a text that starts with {source[:40]!r}. Write it "
            "to a file."
        )
    return Path(source).expanduser()


def read_single(content: bytes | str, text_format: str, where: str) -> ParsedStructure:
    """Read the crystal of a CIF or POSCAR.

    Args:
        content: The bytes of the file, compressed or not, or its text.
        text_format: ``cif`` or ``poscar``.
        where: Place for messages.

    Raises:
        DamagedFileError: If the content is not text.
        BadCrystalError: If the text is not one readable crystal.
    """
    text = content if isinstance(content, str) else decode(content, where)
    if text_format == "poscar":
        return read_poscar(text)
    from crystal_gym.formats.cif import read_cif

    return read_cif(text)


def read_several(content: bytes, text_format: str, path: Path) -> list[FileCrystal]:
    """Read the crystals of an extended XYZ or JSON file.

    The id of a crystal is that of its document. Without one, it is the name of the file, followed
    by ``-0``, ``-1`` and so on if there are several crystals.

    Args:
        content: The bytes of the file, compressed or not.
        text_format: ``extxyz`` or ``json``.
        path: Path of the file.

    Raises:
        DamagedFileError: If the content is not text.
        BadCrystalError: If the text has another format.
    """
    text = decode(content, str(path))
    crystals = read_extxyz(text) if text_format == "extxyz" else _read_json(text)
    name = crystal_name(path)
    names = [name] if len(crystals) == 1 else [f"{name}-{row}" for row in range(len(crystals))]
    return [
        FileCrystal(object_id(crystal) or default, crystal, labels)
        for default, crystal, labels in zip(names, crystals, object_labels(crystals), strict=True)
    ]


def _read_json(text: str) -> list[Mapping[str, Any]]:
    """Read the structures or documents of a JSON text."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadCrystalError(
            f"Expected valid JSON, got an error: {error}. Write the file again."
        ) from error
    entries = data if isinstance(data, list) else [data]
    for row, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or not is_structure_object(entry):
            place = f"entry {row} of the list" if isinstance(data, list) else "the content"
            keys = f" with the keys {', '.join(list(entry)[:8])}" if isinstance(entry, dict) else ""
            raise BadCrystalError(
                f"Expected JSON of a pymatgen Structure (as_dict) or of a Materials Project "
                f"document; {place} is another {type(entry).__name__}{keys}. Supported formats are "
                f"{SUPPORTED}; supported objects are {SUPPORTED_OBJECTS}."
            )
    if not entries:
        raise BadCrystalError("Expected JSON of at least one crystal, got an empty list.")
    return entries
