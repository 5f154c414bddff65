"""Chemical formulas that a CIF declares."""

import math
import re
from dataclasses import dataclass

from crystal_gym.crystals.elements import SYMBOLS
from crystal_gym.errors import BadCrystalError

_SYMBOLS = frozenset(SYMBOLS)
_TOKEN = re.compile(r"([A-Z][a-z]?)(\d*\.?\d*)")
# Largest relative deviation of the counts of a formula with rounded decimals.
_TOLERANCE = 2e-3
_LARGEST_COUNT = 1e6


@dataclass(frozen=True)
class ChemicalFormula:
    """A declared formula.

    Attributes:
        text: The formula in the CIF.
        counts: Number of atoms by element symbol; deuterium counts as hydrogen.
    """

    text: str
    counts: dict[str, float]

    @property
    def is_whole(self) -> bool:
        """Whether all counts are whole numbers."""
        return all(float(count).is_integer() for count in self.counts.values())

    @property
    def divisor(self) -> int:
        """The greatest common divisor of the counts, 1 if they are not whole numbers."""
        return math.gcd(*map(int, self.counts.values())) if self.is_whole else 1

    def units(self, content: dict[str, int]) -> float | None:
        """Return the number of formula units in a cell, or ``None`` if the ratios differ."""
        if set(content) != set(self.counts):
            return None
        units = sum(content.values()) / sum(self.counts.values())
        tolerance = 1e-9 if self.is_whole else _TOLERANCE
        if any(
            abs(content[element] - units * count) > tolerance * content[element]
            for element, count in self.counts.items()
        ):
            return None
        return units


def parse_formula(text: str) -> ChemicalFormula:
    """Parse a sum formula such as ``C6 H12 O6`` or a structural formula such as ``Ca (C O3)``.

    Raises:
        BadCrystalError: If the formula is not readable.
    """
    neutral = re.sub(r"\s\d*[+-]$", "", text.strip())  # without the charge of the unit
    counts = _simple_counts(neutral)
    if counts is None:
        counts = _nested_counts(neutral)
    counts = {element: count for element, count in counts.items() if count > 0}
    for isotope in ("D", "T"):
        if isotope in counts:
            counts["H"] = counts.get("H", 0) + counts.pop(isotope)
    unknown = [element for element in counts if element not in _SYMBOLS]
    if unknown or not counts:
        raise _unreadable(text)
    return ChemicalFormula(text, counts)


def formula_text(counts: dict[str, int]) -> str:
    """Return counts as a formula, such as ``Li2 O2``."""
    return " ".join(
        f"{element}{'' if count == 1 else format(count, 'g')}" for element, count in counts.items()
    )


def _simple_counts(text: str) -> dict[str, float] | None:
    """Return the counts of a formula without brackets, or ``None``."""
    compact = re.sub(r"[\s,]+", "", text)
    if not re.fullmatch(f"(?:{_TOKEN.pattern})+", compact):
        return _upper_case_counts(text)
    counts: dict[str, float] = {}
    for token in re.split(r"[\s,]+", text.strip()):
        if not re.fullmatch(f"(?:{_TOKEN.pattern})+", token):
            return _upper_case_counts(text)
        for element, count in _TOKEN.findall(token):
            counts[element] = counts.get(element, 0) + _count(count, text)
    if not set(counts) <= _SYMBOLS | {"D", "T"}:
        return _upper_case_counts(text)
    return counts


def _upper_case_counts(text: str) -> dict[str, float] | None:
    """Return the counts of a formula in capital letters with spaces, or ``None``."""
    counts: dict[str, float] = {}
    for token in text.split():
        found = re.fullmatch(r"([A-Z]{1,2})(\d*\.?\d*)", token)
        if not found or found[1].capitalize() not in _SYMBOLS:
            return None
        element = found[1].capitalize()
        counts[element] = counts.get(element, 0) + _count(found[2], text)
    return counts


def _nested_counts(text: str) -> dict[str, float]:
    """Return the counts of a formula with brackets."""
    from pymatgen.core import Composition

    if re.search(r"(?:^|\s)[\d.]+\s*\(", text):  # a factor before a bracket
        raise _unreadable(text)
    try:
        composition = Composition(text, strict=True)
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(text) from error
    return {str(element): float(count) for element, count in composition.items()}


def _count(digits: str, text: str) -> float:
    count = float(digits or 1) if digits != "." else math.inf
    if count > _LARGEST_COUNT:
        raise _unreadable(text)
    return count


def _unreadable(text: str) -> BadCrystalError:
    return BadCrystalError(
        f"Expected a chemical formula such as 'Sr Ti O3', got {text!r}. Correct or remove it."
    )
