"""Collections from CIF files: a folder, or a list of them."""

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
    """Whether a name ends in ``.cif``, in small letters or capitals."""
    return path.suffix.lower() == ".cif"


def load_cif_folder(
    path: str | Path,
    *,
    order: SiteOrder = None,
    max_sites: int | None = None,
    progress: bool = True,
) -> CrystalCollection:
    """A collection from a folder with one crystal in each CIF file.

    The id of a crystal is its file's name without ``.cif``. Files in sub-folders ``train``,
    ``val`` and ``test`` belong to these splits; files in the folder itself to ``train``.

    Args:
        path: the folder.
        order: rule for the site order (default: by coordinates, which gives no element away).
        max_sites: refuse larger cells.
        progress: show a progress bar.

    Raises:
        MissingDataError: there is no CIF file.
        DamagedFileError: a file cannot be read.
        BadCrystalError: a file holds no usable crystal; the message names it.
        CrystalGymError: two files have the same name.
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
            f"There is no CIF file (*.cif) in {path} nor in its train, val and test."
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
    """A collection of these CIF files, one crystal in each, all in split ``train``.

    The id of a crystal is its file's name without ``.cif``.

    Args:
        paths: the files.
        name: the collection's name.
        order: rule for the site order (default: by coordinates, which gives no element away).
        max_sites: refuse larger cells.
        progress: show a progress bar.

    Raises:
        DamagedFileError: a file cannot be read.
        BadCrystalError: a file holds no usable crystal; the message names it.
        CrystalGymError: two files have the same name.
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
    """The crystal of a CIF file, not yet parsed.

    Args:
        file: the file.
        split: the crystal's.
        where: how errors call the file (default: by its path).

    Raises:
        DamagedFileError: the file is not there, or no text.
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
    """A collection of files, with the split of each and how errors call it."""
    found: dict[str, RawCrystal] = {}
    for file, split, where in files:
        if file.stem in found:
            raise CrystalGymError(
                f"{found[file.stem].where} and {where} have the same name, which is the crystal's "
                "id; rename one."
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
