"""Collections from lists of structures in all supported forms."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

from crystal_gym.collections.collection import SPLITS, CrystalCollection
from crystal_gym.collections.preparation import SiteOrder, label_arrays, prepare_crystals
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.collections.reading_report import warn_of_exclusions
from crystal_gym.collections.structure_files import read_crystals, require_distinct_ids
from crystal_gym.errors import BadCrystalError, CrystalGymError, DamagedFileError, UnknownNameError
from crystal_gym.formats.file_formats import SUPPORTED
from crystal_gym.formats.objects import (
    SUPPORTED_OBJECTS,
    is_structure_object,
    object_id,
    object_labels,
)
from crystal_gym.formats.structure_file import as_path


def collection_from_structures(
    structures: Iterable[Any],
    *,
    ids: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    name: str = "structures",
    order: SiteOrder = None,
    max_sites: int | None = None,
    on_error: str = "raise",
    progress: bool = True,
) -> CrystalCollection:
    """Create a collection from structures without a cache.

    An item is a pymatgen ``Structure`` or ``IStructure``, its ``as_dict()``, ``ase.Atoms``, an
    object or dictionary with a structure, such as a summary document of the Materials Project, or
    the path of a structure file. The numeric properties of documents become labels.

    Args:
        structures: C ordered structures.
        ids: C distinct identifiers (default: the ``material_id`` of documents, the name of files,
            and otherwise the position ``0``, ``1``, ...).
        splits: C names of splits (default: all ``train``).
        name: Name of the collection.
        order: Rule for the site order (default: by coordinates, which reveals no elements).
        max_sites: Reject larger cells.
        on_error: ``raise`` an error for crystals that cannot be read, or ``skip`` them.
        progress: Show a progress bar.

    Raises:
        DamagedFileError: If a file cannot be read and ``on_error`` is ``raise``.
        BadCrystalError: If a structure has no valid skeleton and ``on_error`` is ``raise``, or if
            no structure has one.
        UnknownNameError: If a split or ``on_error`` is unknown.
        CrystalGymError: If an identifier occurs twice, the lengths differ, or an item is not a
            structure.
    """
    raw = _raw_crystals(list(structures))
    if ids is not None or splits is not None:
        raw = _with_ids_and_splits(raw, ids, splits)
    raw = require_distinct_ids(raw)
    prepared = prepare_crystals(raw, order, max_sites, on_error=on_error, progress=progress)
    warn_of_exclusions(prepared.excluded, len(raw))
    return CrystalCollection(
        name=name,
        **prepared.arrays,
        labels=label_arrays(raw, prepared.rows),
        description=f"{len(prepared.rows)} structures.",
        excluded=prepared.excluded,
    )


def _raw_crystals(items: list[Any]) -> list[RawCrystal]:
    """Return the crystals of all items; an unreadable file is one crystal with an error."""
    for row, item in enumerate(items):
        if not isinstance(item, str | PathLike) and not is_structure_object(item):
            text = repr(item)
            raise CrystalGymError(
                f"Expected a crystal at position {row}, got "
                f"{text if len(text) < 200 else text[:200] + '…'}. Use {SUPPORTED_OBJECTS}, or the "
                f"path of a file in one of the formats {SUPPORTED}."
            )
    objects = [item for item in items if not isinstance(item, str | PathLike)]
    labels = iter(object_labels(objects))
    raw = []
    for row, item in enumerate(items):
        if isinstance(item, str | PathLike):
            path = as_path(item)
            try:
                raw += read_crystals(path)
            except (BadCrystalError, DamagedFileError) as error:
                raw.append(RawCrystal(path.name, "train", error, "error", str(path)))
        else:
            crystal = object_id(item) or str(row)
            where = f"structure {row}"
            raw.append(RawCrystal(crystal, "train", item, "object", where, next(labels)))
    return raw


def _with_ids_and_splits(
    raw: list[RawCrystal], ids: Sequence[str] | None, splits: Sequence[str] | None
) -> list[RawCrystal]:
    ids = [str(i) for i in ids] if ids is not None else [crystal.id for crystal in raw]
    splits = list(splits) if splits is not None else ["train"] * len(raw)
    if len(ids) != len(raw) or len(splits) != len(raw):
        raise CrystalGymError(
            f"Expected one id and one split for each of the {len(raw)} structures, got "
            f"{len(ids)} ids and {len(splits)} splits."
        )
    if len(set(ids)) != len(ids):
        repeated = next(i for i in ids if ids.count(i) > 1)
        raise CrystalGymError(f"Expected distinct ids, got {repeated!r} more than once.")
    for split in splits:
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
    return [
        replace(crystal, id=new_id, split=split)
        for crystal, new_id, split in zip(raw, ids, splits, strict=True)
    ]
