"""The result of reading one crystal."""

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
