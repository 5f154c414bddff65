"""Sites that a CIF lists: their elements, positions and occupancies."""

import math
import re
from dataclasses import dataclass

import numpy as np

from crystal_gym.crystals.elements import SYMBOLS
from crystal_gym.errors import BadCrystalError
from crystal_gym.formats.chemical_formula import ChemicalFormula
from crystal_gym.formats.cif_block import CifBlock, number

# Occupancies that differ from one by at most this count as one.
OCCUPANCY_TOLERANCE = 1e-3
# Coordinates this close to 1/3 and 2/3, relative to them, are rounded values of them.
_ROUNDING = 1e-4
# Fractional coordinates are smaller than this, with whole numbers of cells added.
_LARGEST_COORDINATE = 1000
_COORDINATES = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")
_CARTESIAN = ("_atom_site_cartn_x", "_atom_site_cartn_y", "_atom_site_cartn_z")
_SYMBOLS = frozenset(SYMBOLS)
_DEUTERIUM = "D"
# A type symbol: an element, and a charge or a number.
_TYPE = re.compile(r"([A-Za-z]{1,2})(?:val)?\s*(?:[+-]?\d*\.?\d*[+-]?)")


@dataclass(frozen=True)
class ListedSites:
    """The sites that a CIF lists, in their order.

    Attributes:
        labels: Labels for messages.
        elements: Element symbols.
        frac_coords: Fractional coordinates, float64 (n, 3).
        multiplicities: Declared number of images of each site, ``None`` if unknown.
    """

    labels: list[str]
    elements: list[str]
    frac_coords: np.ndarray
    multiplicities: list[int | None]


def read_sites(block: CifBlock, formula: ChemicalFormula | None) -> tuple[ListedSites, list[str]]:
    """Return the sites, and notices on occupancies and deuterium.

    Coordinates within 1e-4 of one and two thirds, relative to them, become these fractions.

    Args:
        block: The block of the crystal.
        formula: The declared formula, which decides labels that can mean several elements.

    Raises:
        BadCrystalError: If a position is unknown, an element is unknown or in doubt, a site is
            partly occupied, or hydrogen atoms are given without positions.
    """
    rows = _coordinate_rows(block)
    labels = block.columns.get("_atom_site_label") or [None] * len(rows)
    types = block.columns.get("_atom_site_type_symbol") or [None] * len(rows)
    if len(labels) != len(rows) or len(types) != len(rows):
        raise BadCrystalError("Expected the sites in one loop, got tags of different lengths.")
    names = [
        label or kind or f"number {row + 1}"
        for row, (label, kind) in enumerate(zip(labels, types, strict=True))
    ]
    _reject_attached_hydrogen(block, names)
    _reject_disorder_groups(block)
    _reject_dummy_sites(block, names)
    present, notices = _occupied(block, names)
    elements = [
        _element(label, kind, name, formula)
        for label, kind, name, occupied in zip(labels, types, names, present, strict=True)
        if occupied
    ]
    if deuterium := elements.count(_DEUTERIUM):
        notices.append(f"deuterium was read as hydrogen (listed sites: {deuterium})")
        elements = ["H" if element == _DEUTERIUM else element for element in elements]
    positions = [
        _position(row, name)
        for row, name, occupied in zip(rows, names, present, strict=True)
        if occupied
    ]
    multiplicities = _multiplicities(block, len(rows))
    keep = [row for row, occupied in enumerate(present) if occupied]
    return (
        ListedSites(
            [names[row] for row in keep],
            elements,
            np.array(positions, np.float64).reshape(-1, 3),
            [multiplicities[row] for row in keep],
        ),
        notices,
    )


def _coordinate_rows(block: CifBlock) -> list[tuple[str | None, str | None, str | None]]:
    """Return the texts of the fractional coordinates of each site."""
    columns = [block.columns.get(tag) for tag in _COORDINATES]
    if not all(columns):
        if block.has_any(*_CARTESIAN):
            raise BadCrystalError(
                "Expected fractional coordinates of the sites, got Cartesian coordinates, as in "
                "mmCIF files of molecules. Convert them."
            )
        raise BadCrystalError(
            "Expected the tags _atom_site_fract_x, _y and _z, got a cell without positions."
        )
    if len({len(column or []) for column in columns}) != 1:
        raise BadCrystalError("Expected the coordinates of the sites in one loop.")
    x, y, z = (column or [] for column in columns)
    return list(zip(x, y, z, strict=True))


def _position(row: tuple[str | None, ...], name: str) -> list[float]:
    """Return the fractional coordinates of a site; 0.3333 becomes 1/3."""
    position = []
    for text in row:
        value = math.nan if text is None else number(text)
        if not abs(value) < _LARGEST_COORDINATE:
            raise BadCrystalError(
                f"Expected numbers as the coordinates of site {name!r}, got "
                f"{', '.join('?' if text is None else repr(text) for text in row)}. Complete them "
                "or remove the site."
            )
        for third in (1 / 3, 2 / 3):
            if abs(value / third - 1) <= _ROUNDING:
                value = third
        position.append(value)
    return position


def _occupied(block: CifBlock, names: list[str]) -> tuple[list[bool], list[str]]:
    """Return whether each site is occupied, and notices on occupancies that were changed."""
    texts = block.columns.get("_atom_site_occupancy")
    if texts is None:
        return [True] * len(names), []
    if len(texts) != len(names):
        raise BadCrystalError("Expected one occupancy for each site. Correct the loop.")
    if set(texts) <= {"1", "1.0", None}:
        return [True] * len(names), []
    occupied, rounded, empty = [], 0, 0
    for text, name in zip(texts, names, strict=True):
        value = 1.0 if text is None else number(text)
        if math.isnan(value):
            raise BadCrystalError(
                f"Expected a number as the occupancy of site {name!r}, got {text!r}. Correct it."
            )
        if value == 0:
            empty += 1
        elif abs(value - 1) > OCCUPANCY_TOLERANCE + 1e-9:  # decimals are not exact
            raise BadCrystalError(
                f"Site {name!r} is disordered or partly occupied (occupancy {text}). Use an "
                "ordered crystal, with one element on each site."
            )
        rounded += value not in {0, 1}
        occupied.append(value != 0)
    notices = []
    if rounded:
        notices.append(
            f"occupancies within {OCCUPANCY_TOLERANCE:g} of one count as one "
            f"(listed sites: {rounded})"
        )
    if empty:
        notices.append(f"sites with the occupancy zero were left out (listed sites: {empty})")
    return occupied, notices


def _element(
    label: str | None, kind: str | None, name: str, formula: ChemicalFormula | None
) -> str:
    """Return the element of a site from its type symbol, or from its label."""
    if kind is not None:
        found = _TYPE.fullmatch(kind.strip())
        symbol = found[1] if found else ""
        symbol = symbol if symbol in _SYMBOLS else symbol.capitalize()
        if symbol in _SYMBOLS or symbol == _DEUTERIUM:
            return symbol
        raise BadCrystalError(
            f"Expected an element as the type symbol of site {name!r}, got {kind!r}. Correct it."
        )
    if label is None:
        raise BadCrystalError(
            f"Expected a label or a type symbol for the site {name}, got neither. Add one."
        )
    readings = _readings(label, formula)
    if len(readings) == 1:
        return readings[0]
    reason = f"can mean {' or '.join(readings)}" if readings else "does not start with an element"
    if formula:
        reason += f" of the declared formula {formula.text!r}"
    raise BadCrystalError(
        f"Expected a label that names one element, got {label!r}, which {reason}. Add "
        f"_atom_site_type_symbol{'' if formula else ' or _chemical_formula_sum'}."
    )


def _readings(label: str, formula: ChemicalFormula | None) -> list[str]:
    """Return the elements that a label without a type symbol can mean."""
    letters = re.match(r"[A-Za-z]*", label)[0]  # type: ignore[index] - it always matches
    elements = _SYMBOLS | {_DEUTERIUM}
    two, single = letters[:2].capitalize(), letters[:1].upper()
    found = [symbol for symbol in dict.fromkeys((two, single)) if symbol in elements]
    if formula:
        known = [s for s in found if ("H" if s == _DEUTERIUM else s) in formula.counts]
        # Usual spelling decides between elements of the formula: Ca1 is calcium, CA1 in doubt.
        return known[:1] if known and len(letters) == 2 and letters == two == known[0] else known
    if letters in found:
        return [letters]
    if len(letters) == 2 and two in found and single not in found:
        return [two]  # such as LI1
    if len(found) == 1 and len(letters) > 1:
        return [*found, "a group of atoms"]  # such as OH
    return found


def _reject_attached_hydrogen(block: CifBlock, names: list[str]) -> None:
    """Raise a ``BadCrystalError`` if hydrogen atoms are given without positions."""
    attached = block.columns.get("_atom_site_attached_hydrogens", [])
    for name, text in zip(names, attached, strict=False):
        if text is not None and number(text) != 0:
            raise BadCrystalError(
                f"Expected positions of all atoms, got site {name!r} with {text} attached "
                "hydrogen atoms without positions (H is missing). Add them."
            )


def _reject_disorder_groups(block: CifBlock) -> None:
    """Raise a ``BadCrystalError`` if the CIF lists alternative positions."""
    groups = {
        text
        for text in block.columns.get("_atom_site_disorder_group", [])
        if text is not None and text != "0"
    }
    if len(groups) > 1:
        raise BadCrystalError(
            f"The crystal is disordered: it has the disorder groups {', '.join(sorted(groups))}. "
            "Use an ordered crystal, with one element on each site."
        )


def _reject_dummy_sites(block: CifBlock, names: list[str]) -> None:
    """Raise a ``BadCrystalError`` if the CIF marks a site as a dummy without an atom."""
    for name, text in zip(names, block.columns.get("_atom_site_calc_flag", []), strict=False):
        if text == "dum":
            raise BadCrystalError(
                f"Expected sites with atoms, got the dummy site {name!r} (_atom_site_calc_flag is "
                "'dum'). Remove it."
            )


def _multiplicities(block: CifBlock, count: int) -> list[int | None]:
    """Return the declared number of images of each site."""
    for tag in (
        "_atom_site_site_symmetry_multiplicity",
        "_atom_site_symmetry_multiplicity",
        "_atom_site_wyckoff_symbol",
    ):
        texts = block.columns.get(tag, [])
        found = [re.match(r"\d+", text) if text else None for text in texts]
        if len(found) == count and any(found):
            return [int(match[0]) if match else None for match in found]
    return [None] * count
