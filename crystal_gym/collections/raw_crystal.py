"""A crystal as its origin provides it, and its parsed structure."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crystal_gym.errors import BadCrystalError, ParserWarning

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class RawCrystal:
    """A crystal as its origin provides it.

    Attributes:
        id: The identifier of the crystal at its origin.
        split: ``train``, ``val`` or ``test``.
        content: Text of a CIF or POSCAR, or a pymatgen ``Structure``.
        format: ``cif``, ``poscar`` or ``structure``.
        where: Place of the crystal for messages, such as ``train.csv, row 17``.
        labels: Properties by name.
    """

    id: str
    split: str
    content: "str | Structure"
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
            BadCrystalError: If the text is not readable as one crystal, or in doubt.
        """
        if not isinstance(self.content, str):
            return self.content, []
        if self.format == "cif":
            from crystal_gym.formats.cif import read_cif

            parsed = read_cif(self.content)
            return parsed.structure, list(parsed.notices)
        return _read_text(self.content, self.format), []


def _read_text(text: str, text_format: str) -> "Structure":
    """Read the one structure in the text of a format of pymatgen; its warnings are errors."""
    from pymatgen.core import Structure

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return Structure.from_str(text, text_format)  # type: ignore[arg-type] - a Literal
    except Exception as error:  # the parsers of pymatgen raise errors of any class
        raise BadCrystalError(
            f"Expected a readable {text_format.upper()}; pymatgen reports: {error}"
        ) from error
