"""Collections from pymatgen structures at hand."""

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
    """A collection of these structures; nothing is cached.

    Args:
        structures: C ordered structures.
        ids: C identifiers, each once (default: ``0``, ``1``, …).
        splits: C names of splits (default: all ``train``).
        name: the collection's name.
        order: rule for the site order (default: by coordinates, which gives no element away).
        max_sites: refuse larger cells.
        progress: show a progress bar.

    Raises:
        BadCrystalError: a structure cannot be used.
        CrystalGymError: an identifier occurs twice, or the lengths differ.
    """
    from pymatgen.core import IStructure

    structures = list(structures)
    for row, structure in enumerate(structures):
        if not isinstance(structure, IStructure):
            raise CrystalGymError(f"Structure {row} is no pymatgen Structure, but {structure!r}.")
    ids = [str(i) for i in (ids if ids is not None else range(len(structures)))]
    splits = list(splits) if splits is not None else ["train"] * len(structures)
    if len(ids) != len(structures) or len(splits) != len(structures):
        raise CrystalGymError(
            f"{len(structures)} structures, {len(ids)} ids and {len(splits)} splits do not match."
        )
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise CrystalGymError(f"The id {twice!r} occurs more than once.")
    for split in splits:
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
    raw = [
        RawCrystal(crystal, split, structure, "structure", f"structure {row}")
        for row, (crystal, split, structure) in enumerate(zip(ids, splits, structures, strict=True))
    ]
    arrays = prepare(raw, order, max_sites, progress=progress)
    return CrystalCollection(name=name, **arrays, description=f"{len(raw)} structures at hand.")
