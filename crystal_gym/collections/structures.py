"""Collections from lists of pymatgen structures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from crystal_gym.collections.collection import SPLITS, CrystalCollection
from crystal_gym.collections.preparation import SiteOrder, prepare
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.errors import CrystalGymError, UnknownNameError

if TYPE_CHECKING:
    from pymatgen.core import Structure


def collection_from_structures(
    structures: "Sequence[Structure]",
    *,
    ids: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    name: str = "structures",
    order: SiteOrder = None,
    max_sites: int | None = None,
    progress: bool = True,
) -> CrystalCollection:
    """Create a collection from structures without a cache.

    Args:
        structures: C ordered structures.
        ids: C distinct identifiers (default: ``0``, ``1``, ...).
        splits: C names of splits (default: all ``train``).
        name: Name of the collection.
        order: Rule for the site order (default: by coordinates, which reveals no elements).
        max_sites: Reject larger cells.
        progress: Show a progress bar.

    Raises:
        BadCrystalError: If a structure has no valid skeleton.
        UnknownNameError: If a split is unknown.
        CrystalGymError: If an identifier occurs twice, the lengths differ, or an item is not a
            structure.
    """
    from pymatgen.core import IStructure

    structures = list(structures)
    for row, structure in enumerate(structures):
        if not isinstance(structure, IStructure):
            raise CrystalGymError(
                f"Expected a pymatgen Structure at position {row}, got {structure!r}."
            )
    ids = [str(i) for i in (ids if ids is not None else range(len(structures)))]
    splits = list(splits) if splits is not None else ["train"] * len(structures)
    if len(ids) != len(structures) or len(splits) != len(structures):
        raise CrystalGymError(
            f"Expected one id and one split for each of the {len(structures)} structures, got "
            f"{len(ids)} ids and {len(splits)} splits."
        )
    if len(set(ids)) != len(ids):
        repeated = next(i for i in ids if ids.count(i) > 1)
        raise CrystalGymError(f"Expected distinct ids, got {repeated!r} more than once.")
    for split in splits:
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
    raw = [
        RawCrystal(crystal, split, structure, "structure", f"structure {row}")
        for row, (crystal, split, structure) in enumerate(zip(ids, splits, structures, strict=True))
    ]
    arrays = prepare(raw, order, max_sites, progress=progress)
    return CrystalCollection(name=name, **arrays, description=f"{len(raw)} structures.")
