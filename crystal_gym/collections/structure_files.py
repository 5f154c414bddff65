"""Collections from a folder or a list of structure files in all supported formats."""

import hashlib
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.collections.folder_contents import folder_contents
from crystal_gym.collections.preparation import (
    SiteOrder,
    collection_name,
    prepared_collection,
)
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.collections.reading_report import warn_of_ignored_files
from crystal_gym.errors import BadCrystalError, CrystalGymError, DamagedFileError, MissingDataError
from crystal_gym.formats.file_formats import crystal_name, require_format
from crystal_gym.formats.structure_file import SINGLE_FORMATS, as_path, read_several
from crystal_gym.formats.text import read_bytes


def load_structure_folder(
    path: str | Path,
    *,
    order: SiteOrder = None,
    max_sites: int | None = None,
    on_error: str = "raise",
    progress: bool = True,
) -> CrystalCollection:
    """Load a collection from a folder of structure files.

    The id of a crystal is the name of its file without the extensions, see ``read_crystals``.
    Files in the subfolders ``train``, ``val`` and ``test`` belong to these splits; files in the
    folder itself belong to ``train``. Extended XYZ and JSON files named ``train``, ``val`` and
    ``test`` belong to these splits as well.

    Args:
        path: The folder.
        order: Rule for the site order (default: by coordinates, which reveals no elements).
        max_sites: Reject larger cells.
        on_error: ``raise`` an error for crystals that cannot be read, or ``skip`` them.
        progress: Show a progress bar.

    Raises:
        MissingDataError: If there is no structure file.
        DamagedFileError: If a file cannot be read.
        BadCrystalError: If a file does not contain valid crystals; the message gives the file.
        CrystalGymError: If two crystals have the same id, or files would be left out.
    """
    path = Path(path).expanduser()
    contents = folder_contents(path)
    warn_of_ignored_files(path, contents.ignored)
    files = contents.structures
    if not files:
        raise MissingDataError(f"Expected structure files in {path}, got CSV files.")
    return _load(
        collection_name(path),
        [(file, split, file.relative_to(path).as_posix()) for file, split in files],
        order=order,
        max_sites=max_sites,
        on_error=on_error,
        description=f"Crystals from a folder of {len(files):,} structure files.",
        progress=progress,
    )


def load_structure_files(
    paths: Iterable[str | PathLike],
    *,
    name: str = "crystals",
    order: SiteOrder = None,
    max_sites: int | None = None,
    on_error: str = "raise",
    progress: bool = True,
) -> CrystalCollection:
    """Load a collection from structure files, all in the split ``train``.

    The id of a crystal is the name of its file without the extensions, see ``read_crystals``.

    Args:
        paths: The files.
        name: Name of the collection.
        order: Rule for the site order (default: by coordinates, which reveals no elements).
        max_sites: Reject larger cells.
        on_error: ``raise`` an error for crystals that cannot be read, or ``skip`` them.
        progress: Show a progress bar.

    Raises:
        DamagedFileError: If a file cannot be read.
        BadCrystalError: If a file does not contain valid crystals; the message gives the file.
        CrystalGymError: If two crystals have the same id.
    """
    files = [as_path(path) for path in paths]
    return _load(
        name,
        [(file, "train", str(file)) for file in files],
        order=order,
        max_sites=max_sites,
        on_error=on_error,
        description=f"Crystals from {len(files):,} structure files.",
        progress=progress,
    )


def read_crystals(
    file: Path, split: str = "train", where: str | None = None, content: bytes | None = None
) -> list[RawCrystal]:
    """Read the crystals of a structure file; those of CIF and POSCAR files are not parsed.

    The id of a crystal is the ``material_id`` of its document. Without one, it is the name of the
    file, followed by ``-0``, ``-1`` and so on if there are several crystals.

    Args:
        file: The file.
        split: Split of the crystals.
        where: Place for messages (default: the path).
        content: The bytes of the file (default: read them).

    Raises:
        DamagedFileError: If the file is missing or is not text.
        BadCrystalError: If the format is not supported, or the content has another format.
    """
    where = where or str(file)
    text_format = require_format(file)
    content = read_bytes(file) if content is None else content
    name = crystal_name(file)
    if text_format in SINGLE_FORMATS:
        return [RawCrystal(name, split, content, text_format, where)]
    crystals = read_several(content, text_format, file)
    return [
        RawCrystal(
            crystal.id,
            split,
            crystal.content,
            "object",
            f"{where}, crystal {row}" if len(crystals) > 1 else where,
            crystal.labels,
        )
        for row, crystal in enumerate(crystals)
    ]


def require_distinct_ids(crystals: Iterable[RawCrystal]) -> list[RawCrystal]:
    """Return the crystals as a list.

    Raises:
        CrystalGymError: If two crystals have the same id; the message gives both places.
    """
    found: dict[str, RawCrystal] = {}
    for crystal in crystals:
        if crystal.id in found:
            raise CrystalGymError(
                f"Expected distinct ids, which are the names of files without documents; "
                f"{found[crystal.id].where} and {crystal.where} have the same name or id "
                f"{crystal.id!r}. Rename one."
            )
        found[crystal.id] = crystal
    return list(found.values())


def _load(
    name: str,
    files: list[tuple[Path, str, str]],
    *,
    order: SiteOrder,
    max_sites: int | None,
    on_error: str,
    description: str,
    progress: bool,
) -> CrystalCollection:
    """Load a collection from tuples of a file, its split and its place for messages."""
    contents: list[bytes | DamagedFileError] = []
    digest = hashlib.sha256()
    for file, split, where in files:
        try:
            contents.append(read_bytes(file))
        except DamagedFileError as error:
            contents.append(error)
        digest.update(repr((split, where, contents[-1])).encode("utf-8", "surrogateescape"))
    return prepared_collection(
        name,
        digest.hexdigest(),
        lambda: require_distinct_ids(
            crystal
            for (file, split, where), content in zip(files, contents, strict=True)
            for crystal in _read_or_keep_error(file, split, where, content)
        ),
        order=order,
        max_sites=max_sites,
        on_error=on_error,
        description=description,
        progress=progress,
    )


def _read_or_keep_error(
    file: Path, split: str, where: str, content: bytes | DamagedFileError
) -> list[RawCrystal]:
    """Read the crystals of a file; a file that cannot be read is one crystal with an error."""
    try:
        if isinstance(content, DamagedFileError):
            raise content
        return read_crystals(file, split, where, content)
    except (BadCrystalError, DamagedFileError) as error:
        return [RawCrystal(crystal_name(file), split, error, "error", where)]
