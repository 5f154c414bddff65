"""Symmetry of the crystal of a CIF."""

from dataclasses import dataclass

import numpy as np

from crystal_gym.errors import BadCrystalError
from crystal_gym.formats.cif_block import CifBlock, number
from crystal_gym.formats.cif_operators import listed_operators, parse_operators
from crystal_gym.formats.orbits import Operators
from crystal_gym.formats.space_group_names import (
    NamedSettings,
    Setting,
    number_of_keys,
    setting_of_hall,
    settings_of_name,
    settings_of_number,
)

_SYMBOL_TAGS = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_ref",
    "_space_group_name_h-m",
    "_space_group_name_h-m_full",
    "_symmetry_space_group_name_h_m",
    "_symmetry_space_group_name_h-m_alt",
    "_space_group_name_h-m_alt_",
    "_symmetry_space_group_name_h-m_",
)
_HALL_TAGS = (
    "_space_group_name_hall",
    "_symmetry_space_group_name_hall",
    "_space_group_name_hall_",
    "_symmetry_space_group_name_hall_",
)
_NUMBER_TAGS = (
    "_space_group_it_number",
    "_symmetry_int_tables_number",
    "_space_group_it_number_",
    "_symmetry_int_tables_number_",
)
# Largest deviation of a cell from its crystal system: of length ratios, and of cosines of angles.
_CELL_TOLERANCE = 5e-3


@dataclass(frozen=True)
class Symmetry:
    """A reading of the symmetry of a CIF.

    Attributes:
        name: Name for messages.
        operators: The symmetry operators.
    """

    name: str
    operators: Operators


@dataclass(frozen=True)
class _Declared:
    """The symbols that a CIF gives for its space group."""

    symbols: dict[str, NamedSettings]
    unknown: list[str]
    hall: Setting | None
    hall_text: str | None
    number: int | None

    @property
    def exists(self) -> bool:
        return bool(self.symbols or self.unknown or self.hall_text or self.number)


def read_symmetry(block: CifBlock, lattice: np.ndarray) -> tuple[list[Symmetry], list[str]]:
    """Return the readings of the symmetry that fit the cell, and notices.

    Listed operators have precedence over symbols, and the Hall symbol over the Hermann-Mauguin
    symbol and the number, because they define the axes and the origin.

    Args:
        block: The block of the crystal.
        lattice: Row vectors in Å (3, 3).

    Returns:
        One reading, or several if the CIF leaves the setting open; none if the CIF has no
        information on the symmetry.

    Raises:
        BadCrystalError: If the information is contradictory or unknown, or does not fit the cell.
    """
    declared = _read_declared(block)
    listed = listed_operators(block)
    if listed:
        return _from_operators(listed, declared, lattice)
    if not declared.exists:
        return [], []
    settings = _from_symbols(declared)
    fitting = [s for s in settings if _fits_cell(s.operators, lattice)]
    if not fitting:
        names = ", ".join(repr(setting.name) for setting in settings)
        raise BadCrystalError(
            f"Expected a cell that fits the space group, got a cell that does not fit {names}. "
            "Correct the cell, or the symbol and its axes."
        )
    if not declared.hall and declared.symbols and any(s.number in range(3, 16) for s in fitting):
        fitting = fitting[:1]  # a symbol without the 1s has the unique axis b by convention
    return [Symmetry(setting.name, setting.operators) for setting in fitting], []


def _read_declared(block: CifBlock) -> _Declared:
    """Read the symbols and the number of the space group."""
    symbols, unknown = {}, []
    for tag in _SYMBOL_TAGS:
        if (symbol := block.value(tag)) and symbol.strip():
            named = settings_of_name(symbol)
            if named:
                symbols[symbol] = named
            else:
                unknown.append(symbol)
    hall_text = block.value(*_HALL_TAGS)
    text = block.value(*_NUMBER_TAGS)
    it_number = None
    if text is not None:
        value = number(text)
        if not (value.is_integer() and 1 <= value <= 230):
            raise BadCrystalError(
                f"Expected the number of a space group from 1 to 230, got {text!r}. Correct it."
            )
        it_number = int(value)
    hall = setting_of_hall(hall_text) if hall_text else None
    return _Declared(symbols, unknown, hall, hall_text, it_number)


def _from_operators(
    listed: tuple[str, ...], declared: _Declared, lattice: np.ndarray
) -> tuple[list[Symmetry], list[str]]:
    """Return the listed operators after comparison with the symbols and the cell."""
    keys, operators = parse_operators(listed)
    noun = "operator" if len(listed) == 1 else "operators"
    described = f"the {len(listed)} listed symmetry {noun}"
    group = number_of_keys(keys) if declared.exists else 0
    if declared.exists:
        if not group:
            raise BadCrystalError(f"Expected the operators of a space group, got {described}.")
        described += f" (space group {group})"
        _compare(declared, group, described)
    notices = []
    for symbol, named in declared.symbols.items():
        if any(setting.keys == keys for setting in named.settings):
            continue
        if named.marked:
            raise BadCrystalError(
                f"Expected operators of the setting {symbol!r}, got {described} in another "
                "setting. Correct the symbol or the operators."
            )
        notices.append(f"the symmetry operators, not the setting of {symbol!r}, were used")
    if declared.hall and declared.hall.keys != keys:
        raise BadCrystalError(
            f"Expected operators of the Hall symbol {declared.hall_text!r}, got {described} in "
            "another setting. Correct the symbol or the operators."
        )
    if not _fits_cell(operators, lattice):
        raise BadCrystalError(
            f"Expected a cell that fits the space group, got a cell that does not fit {described}."
            " Correct the cell or the operators."
        )
    return [Symmetry(described, operators)], notices


def _from_symbols(declared: _Declared) -> list[Setting]:
    """Return the settings that agree with all symbols and the number."""
    if declared.hall:
        setting = declared.hall
        _compare(declared, setting.number, f"the Hall symbol {declared.hall_text!r}")
        for symbol, named in declared.symbols.items():
            if named.marked and all(s.keys != setting.keys for s in named.settings):
                raise BadCrystalError(
                    f"Expected symbols of one setting, got {symbol!r} and the Hall symbol "
                    f"{declared.hall_text!r}. Correct one."
                )
        return [setting]
    if not declared.symbols and (declared.unknown or declared.hall_text):
        symbol = declared.unknown[0] if declared.unknown else declared.hall_text
        raise BadCrystalError(
            f"Expected the symbol of a space group, got {symbol!r}, which is not in the tables. "
            "Correct it, or list the symmetry operators."
        )
    if not declared.symbols:
        return list(settings_of_number(declared.number or 1))
    (first, named), *others = declared.symbols.items()
    settings = list(named.settings)
    for symbol, other in others:
        common = [s for s in settings if any(s.keys == o.keys for o in other.settings)]
        if not common:
            raise BadCrystalError(
                f"Expected symbols of one space group and setting, got {first!r} and {symbol!r}. "
                "Correct one."
            )
        settings = common
    _compare(declared, settings[0].number, f"the symbol {first!r}")
    return settings


def _compare(declared: _Declared, group: int, described: str) -> None:
    """Raise a ``BadCrystalError`` if a symbol or the number is that of another space group."""
    others = [
        f"the symbol {symbol!r} (space group {named.settings[0].number})"
        for symbol, named in declared.symbols.items()
        if all(setting.number != group for setting in named.settings)
    ]
    if declared.hall and declared.hall.number != group:
        others.append(
            f"the Hall symbol {declared.hall_text!r} (space group {declared.hall.number})"
        )
    if declared.number is not None and declared.number != group:
        others.append(f"the number {declared.number}")
    if others:
        place = described if "space group" in described else f"{described} (space group {group})"
        raise BadCrystalError(
            f"Expected information on one space group, got {others[0]} and {place}. Correct one."
        )


def _fits_cell(operators: Operators, lattice: np.ndarray) -> bool:
    """Return whether the operators leave lengths and angles of the cell unchanged."""
    if len(operators) == 1:
        return True
    metric = lattice @ lattice.T
    rotations = operators.rotations
    images = np.einsum("mji,jk,mkl->mil", rotations, metric, rotations)
    lengths = np.sqrt(np.diag(metric))
    return bool((np.abs(images - metric) / np.outer(lengths, lengths)).max() < _CELL_TOLERANCE)
