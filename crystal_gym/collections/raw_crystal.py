"""A crystal as its origin provides it, and its parsed structure."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crystal_gym.errors import BadCrystalError, ParserWarning

if TYPE_CHECKING:
    from pymatgen.core import Structure

# The words before pymatgen's summary of the problems in a CIF.
_CIF_SUMMARY = "Issues encountered while parsing CIF: "
# Locations of warnings that do not concern a crystal and were already issued.
_issued: dict = {}


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

        Problems that pymatgen reports are issued as one ``ParserWarning``.

        Raises:
            BadCrystalError: If the text is not readable as one crystal.
        """
        structure, problems = self.parse()
        if problems:
            warnings.warn(
                f"{self.place}: pymatgen reports {'; '.join(problems)}.",
                ParserWarning,
                stacklevel=2,
            )
        return structure

    def parse(self) -> "tuple[Structure, list[str]]":
        """Parse the structure and collect the problems that pymatgen reports.

        Returns:
            The structure with its sites in the order of the file, and the distinct problems.

        Raises:
            BadCrystalError: If the text is not readable as one crystal.
        """
        if not isinstance(self.content, str):
            return self.content, []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            structure = _read_text(self.content, self.format)
        problems = {}
        for warning in caught:
            if issubclass(warning.category, UserWarning):
                text = str(warning.message).removeprefix(_CIF_SUMMARY)
                problems |= dict.fromkeys(line.strip(" .") for line in text.splitlines())
            else:  # not about the crystal, such as a deprecation
                warnings.warn_explicit(
                    warning.message,
                    warning.category,
                    warning.filename,
                    warning.lineno,
                    registry=_issued,
                )
        return structure, list(problems)


def _read_text(text: str, text_format: str) -> "Structure":
    """Read the one structure in the text of a CIF or POSCAR."""
    try:
        if text_format == "cif":
            return _read_cif(text)
        from pymatgen.core import Structure

        return Structure.from_str(text, text_format)  # type: ignore[arg-type] - a Literal
    except BadCrystalError:
        raise
    except Exception as error:  # the parsers of pymatgen raise errors of any class
        raise BadCrystalError(
            f"Expected a readable {text_format.upper()}; pymatgen reports: {error}"
        ) from error


def _read_cif(text: str) -> "Structure":
    """Read the one structure of a CIF; an error includes the problems that pymatgen reports."""
    from pymatgen.io.cif import CifParser

    parser = CifParser.from_str(text)
    try:
        structures = parser.parse_structures(primitive=False)
    except ValueError as error:
        reasons = " ".join([str(error), *parser.warnings])
        raise ValueError(reasons.replace("\n", " ")) from error
    if len(structures) > 1:
        raise BadCrystalError(
            f"Expected a CIF with one crystal, got {len(structures)}. Write each crystal to a CIF "
            "of its own."
        )
    return structures[0]
