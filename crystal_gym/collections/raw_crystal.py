"""A crystal as its origin provides it, and its parsed structure."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crystal_gym.errors import ParserWarning
from crystal_gym.formats.objects import read_object
from crystal_gym.formats.structure_file import read_single

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class RawCrystal:
    """A crystal as its origin provides it.

    Attributes:
        id: The identifier of the crystal at its origin.
        split: ``train``, ``val`` or ``test``.
        content: Text or bytes of a CIF or POSCAR, an object that
            ``crystal_gym.formats.read_structure`` reads, or the error that prevents reading.
        format: ``cif`` or ``poscar`` for text or bytes, ``object`` or ``error``.
        where: Place of the crystal for messages, such as ``train.csv, row 17``.
        labels: Properties by name.
    """

    id: str
    split: str
    content: Any
    format: str
    where: str
    labels: Mapping[str, float] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The place and id of the crystal for messages."""
        return f"{self.where} (crystal {self.id!r})"

    def structure(self) -> "Structure":
        """Parse the structure; its sites are in the order of the file.

        Notices of the reader are issued as one ``ParserWarning``.

        Raises:
            BadCrystalError: If the text is not readable as one crystal.
        """
        structure, notices = self.parse()
        if notices:
            warnings.warn(f"{self.place}: {'; '.join(notices)}.", ParserWarning, stacklevel=2)
        return structure

    def parse(self) -> "tuple[Structure, list[str]]":
        """Parse the structure and collect the notices of the reader.

        Returns:
            The structure with its sites in the order of the file, and notices on harmless changes.

        Raises:
            DamagedFileError: If the content is not text.
            BadCrystalError: If the content is not readable as one crystal, or in doubt.
        """
        if isinstance(self.content, Exception):
            raise self.content
        if isinstance(self.content, str | bytes):
            parsed = read_single(self.content, self.format, self.where)
        else:
            parsed = read_object(self.content)
        return parsed.structure, list(parsed.notices)
