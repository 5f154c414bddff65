"""The result of reading one crystal."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class ParsedStructure:
    """A crystal that was read, and what the reader changed in it.

    Attributes:
        structure: The structure; its sites are in the order of the file or object.
        notices: Sentences on harmless changes, such as sites that were merged.
    """

    structure: "Structure"
    notices: tuple[str, ...] = ()


def with_hydrogen(structure: "Structure", notices: Iterable[str] = ()) -> ParsedStructure:
    """Return a structure in which isotopes of hydrogen are hydrogen, with a notice of them.

    Args:
        structure: The structure; it is changed in place.
        notices: Other notices.
    """
    # pymatgen gives isotopes the symbol H and names of their own.
    isotopes = [
        index
        for index, site in enumerate(structure)
        if site.is_ordered
        and getattr(getattr(site.specie, "element", site.specie), "name", "") in {"D", "T"}
    ]
    for index in isotopes:
        structure[index] = "H"
    found = [f"deuterium or tritium was read as hydrogen (sites: {len(isotopes)})"]
    return ParsedStructure(structure, (*notices, *(found if isotopes else [])))
