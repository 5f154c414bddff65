"""The inputs of fillings: structures, files and skeletons."""

import warnings
from os import PathLike
from typing import TYPE_CHECKING, Any

from crystal_gym.collections.preparation import file_order
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.crystals.symmetry import TOLERANCE
from crystal_gym.errors import BadCrystalError, CrystalGymError, ParserWarning
from crystal_gym.formats import read_structure

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Largest cell that is filled. Policies need up to 0.7 MB for each site of a cell.
MOST_SITES = 8192


def read_skeleton(crystal: Any, *, primitive: bool) -> "tuple[Skeleton, Structure | None]":
    """Return the skeleton of a crystal and its structure, if any, with their sites in one order.

    Args:
        crystal: A skeleton, or what ``crystal_gym.formats.read_structure`` reads.
        primitive: Return the primitive cell of the crystal instead of the given cell.

    Raises:
        BadCrystalError: If the structure has no valid skeleton, or too many sites.
        DamagedFileError: If a file cannot be read.
        CrystalGymError: If the primitive cell of a skeleton is asked for.
    """
    if isinstance(crystal, Skeleton):
        if primitive:
            raise CrystalGymError(
                "Expected a structure with elements for primitive=True, got a Skeleton. Pass the "
                "skeleton of a primitive cell."
            )
        _require_few_sites(crystal.n_sites, "")
        return crystal, None
    parsed = read_structure(crystal)
    place = f"{crystal}: " if isinstance(crystal, str | PathLike) else ""
    if parsed.notices:
        warnings.warn(f"{place}{'; '.join(parsed.notices)}.", ParserWarning, stacklevel=5)
    structure = parsed.structure
    if primitive:
        structure = _primitive_cell(structure, place)
    _require_few_sites(len(structure), place)
    try:
        # The sites keep the order of the file. An order by element would reveal elements to a
        # policy, which is harmless here because nothing is trained or evaluated.
        return Skeleton.from_structure(structure, file_order(structure)), structure
    except BadCrystalError as error:
        raise BadCrystalError(f"{place}{error}") from error


def _require_few_sites(n_sites: int, place: str) -> None:
    """Raise an error for a cell that would not fit in memory."""
    if n_sites > MOST_SITES:
        raise BadCrystalError(
            f"{place}Expected a cell of at most {MOST_SITES:,} sites, got {n_sites:,}, "
            f"which would need about {n_sites / 1000:.0f} GB of memory. Fill a smaller cell."
        )


def _primitive_cell(structure: "Structure", place: str) -> "Structure":
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    found = SpacegroupAnalyzer(structure, symprec=TOLERANCE).find_primitive()
    if found is None:
        raise BadCrystalError(
            f"{place}Expected a crystal with a space group, got one in which spglib finds none. "
            "Fill the given cell."
        )
    return found
