"""Collections from folders of CIF files."""

import hashlib
from pathlib import Path

from crystal_gym.collection import SPLITS, CrystalCollection
from crystal_gym.errors import CrystalGymError, DamagedFileError, MissingDataError
from crystal_gym.preparation import RawCrystal, SiteOrder, collection_name, prepared_collection


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
        for file in sorted(place.glob("*.cif"))
    ]
    if not files:
        raise MissingDataError(
            f"There is no CIF file (*.cif) in {path} nor in its train, val and test."
        )
    found: dict[str, RawCrystal] = {}
    for file, split in files:
        where = file.relative_to(path).as_posix()
        if file.stem in found:
            raise CrystalGymError(
                f"{found[file.stem].where} and {where} have the same name, which is the crystal's "
                "id; rename one."
            )
        try:
            content = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DamagedFileError(f"{file} cannot be read: {error}.") from error
        found[file.stem] = RawCrystal(file.stem, split, content, "cif", where)
    raw = list(found.values())
    digest = hashlib.sha256()
    for crystal in raw:
        digest.update(repr((crystal.where, crystal.content)).encode())
    return prepared_collection(
        collection_name(path),
        digest.hexdigest(),
        lambda: raw,
        order=order,
        max_sites=max_sites,
        description=f"{len(raw):,} crystals from a folder of CIF files.",
        progress=progress,
    )
