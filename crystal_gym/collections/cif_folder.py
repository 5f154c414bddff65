"""Collections from a folder or a list of CIF files."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from crystal_gym.collections.collection import SPLITS, CrystalCollection
from crystal_gym.collections.preparation import (
    SiteOrder,
    collection_name,
    prepared_collection,
)
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.errors import CrystalGymError, DamagedFileError, MissingDataError


def is_cif(path: Path) -> bool:
    """Return whether a file name ends in ``.cif``, in lower or upper case."""
    return path.suffix.lower() == ".cif"


def load_cif_folder(
    path: str | Path,
    *,
    order: SiteOrder = None,
    max_sites: int | None = None,
    progress: bool = True,
) -> CrystalCollection:
    """Load a collection from a folder with one crystal in each CIF file.

    The id of a crystal is the name of its file without ``.cif``. Files in the subfolders
    ``train``, ``val`` and ``test`` belong to these splits; files in the folder itself belong to
    ``train``.

    Args:
        path: The folder.
        order: Rule for the site order (default: by coordinates, which reveals no elements).
        max_sites: Reject larger cells.
        progress: Show a progress bar.

    Raises:
        MissingDataError: If there is no CIF file.
        DamagedFileError: If a file cannot be read.
        BadCrystalError: If a file does not contain one valid crystal; the message gives the file.
        CrystalGymError: If two files have the same name.
    """
    path = Path(path).expanduser()
    places = {"train": [path, path / "train"], "val": [path / "val"], "test": [path / "test"]}
    files = [
        (file, split)
        for split in SPLITS
        for place in places[split]
        for file in sorted(filter(is_cif, place.glob("*")))
    ]
    if not files:
        raise MissingDataError(
            f"Expected CIF files (*.cif) in {path} or its subfolders train, val and test, got no "
            "CIF file. Check the path."
        )
    return _load(
        collection_name(path),
        [(file, split, file.relative_to(path).as_posix()) for file, split in files],
        order=order,
        max_sites=max_sites,
        description=f"{len(files):,} crystals from a folder of CIF files.",
        progress=progress,
    )


def load_cif_files(
    paths: Iterable[str | Path],
    *,
    name: str = "crystals",
    order: SiteOrder = None,
    max_sites: int | None = None,
    progress: bool = True,
) -> CrystalCollection:
    """Load a collection from CIF files with one crystal in each, all in the split ``train``.

    The id of a crystal is the name of its file without ``.cif``.

    Args:
        paths: The files.
        name: Name of the collection.
        order: Rule for the site order (default: by coordinates, which reveals no elements).
        max_sites: Reject larger cells.
        progress: Show a progress bar.

    Raises:
        DamagedFileError: If a file cannot be read.
        BadCrystalError: If a file does not contain one valid crystal; the message gives the file.
        CrystalGymError: If two files have the same name.
    """
    files = [Path(path).expanduser() for path in paths]
    return _load(
        name,
        [(file, "train", str(file)) for file in files],
        order=order,
        max_sites=max_sites,
        description=f"{len(files):,} crystals from CIF files.",
        progress=progress,
    )


def raw_cif(file: Path, split: str = "train", where: str | None = None) -> RawCrystal:
    """Read the crystal of a CIF file without parsing it.

    Args:
        file: The file.
        split: Split of the crystal.
        where: Place for messages (default: the path).

    Raises:
        DamagedFileError: If the file is missing or is not text in UTF-8.
    """
    try:
        content = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{file} cannot be read: {error}.") from error
    return RawCrystal(file.stem, split, content, "cif", where or str(file))


def _load(
    name: str,
    files: Iterable[tuple[Path, str, str]],
    *,
    order: SiteOrder,
    max_sites: int | None,
    description: str,
    progress: bool,
) -> CrystalCollection:
    """Load a collection from tuples of a file, its split and its place for messages."""
    found: dict[str, RawCrystal] = {}
    for file, split, where in files:
        if file.stem in found:
            raise CrystalGymError(
                f"Expected distinct file names, which are the ids of the crystals; "
                f"{found[file.stem].where} and {where} have the same name. Rename one."
            )
        found[file.stem] = raw_cif(file, split, where)
    raw = list(found.values())
    digest = hashlib.sha256()
    for crystal in raw:
        digest.update(repr((crystal.where, crystal.content)).encode())
    return prepared_collection(
        name,
        digest.hexdigest(),
        lambda: raw,
        order=order,
        max_sites=max_sites,
        description=description,
        progress=progress,
    )
