"""Names of space groups in all their spellings, and the settings they can mean."""

import re
from dataclasses import dataclass
from functools import lru_cache

from crystal_gym.formats.cif_operators import DENOMINATOR, OperatorKey, operator_keys, to_operators
from crystal_gym.formats.orbits import Operators

# Numbers of the space groups whose names have an e-glide, which older tables name otherwise.
_E_GLIDE = {39, 41, 64, 67, 68}
# Marks of the origin and the axes after a name; S and Z are those of the ICSD.
_MARKS = {
    "1": "1",
    "s": "1",
    "2": "2",
    "z": "2",
    "h": "H",
    "r": "R",
    "hr": "",
    "rh": "",
}
_SUFFIX = re.compile(
    r"(?P<name>.+?)(?:"
    r":o?(?P<mark>[12hrsz])|:(?P<qualifier>-?[abc][123]?|[abc]{3}|-cba|a-cb|ba-c)"
    r"|o(?P<origin>[12])|(?P<letters>hr|rh|[hrsz])"
    r"|[(\[,;]*origin(?:choice|at)?:?(?P<choice>[12])[)\]]*"
    r"|[(\[,;]+(?P<axes>hex|rhomb)[a-z]*axes[)\]]*"
    r")?"
)


@dataclass(frozen=True)
class Setting:
    """A setting of a space group: its axes and its origin.

    Attributes:
        name: The Hermann-Mauguin symbol with the mark of the origin or the axes.
        number: The number of the space group, 1 to 230.
        mark: Mark of the origin (``1``, ``2``) or the axes (``H``, ``R``), or an empty string.
        hall: The Hall symbol.
    """

    name: str
    number: int
    mark: str
    hall: str

    @property
    def operators(self) -> Operators:
        """The symmetry operators."""
        return _operators(self.hall)

    @property
    def keys(self) -> frozenset[OperatorKey]:
        """The symmetry operators as integers."""
        return _keys(self.hall)


@dataclass(frozen=True)
class NamedSettings:
    """The settings that a name can mean.

    Attributes:
        settings: The settings; several if the name leaves the origin or the axes open.
        marked: Whether the name has a mark of the origin or the axes.
    """

    settings: tuple[Setting, ...]
    marked: bool


def settings_of_name(name: str) -> NamedSettings | None:
    """Return the settings that a Hermann-Mauguin symbol can mean, or ``None`` if it is unknown."""
    # SHELX writes the index of a screw axis in parentheses, as in P2(1)/c.
    text = re.sub(r"(?<=[2346])\(([1-5])\)", r"\1", name.lower())
    text = re.sub(r"[\s_~]", "", text)
    found = _SUFFIX.fullmatch(text)
    if not found:
        return None
    by_name = _settings_by_name()
    base = by_name.get(found["name"], ())
    if not base or not any(found.groupdict(None)[key] for key in list(found.groupdict())[1:]):
        whole = by_name.get(text, ())
        return NamedSettings(whole, marked=False) if whole else None
    if found["qualifier"]:
        settings = tuple(s for s in base if _qualifier(s.hall) == found["qualifier"])
        return NamedSettings(settings, marked=True) if settings else None
    axes = {"hex": "h", "rhomb": "r", None: None}[found["axes"]]
    letters = found["mark"] or found["origin"] or found["letters"] or found["choice"] or axes
    mark = _MARKS[str(letters)]
    if not mark:
        return NamedSettings(base, marked=False)
    settings = tuple(s for s in base if s.mark == mark)
    if not settings and mark == "1" and all(not s.mark for s in base):
        settings = base  # the only origin
    return NamedSettings(settings, marked=True) if settings else None


def settings_of_number(number: int) -> tuple[Setting, ...]:
    """Return the settings of a space group in the International Tables."""
    return tuple(s for s in _tables_settings() if s.number == number)


def setting_of_hall(hall: str) -> Setting | None:
    """Return the setting of a Hall symbol, or ``None`` if the symbol is not readable."""
    import gemmi

    text = " ".join(hall.replace("_", " ").split())
    try:
        group = gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(text))
    except (RuntimeError, ValueError):
        return None
    if group is None:
        keys = operator_keys(gemmi.symops_from_hall(text))
        return Setting(text, number_of_keys(keys), "", text)
    return _setting(group)


def number_of_keys(keys: frozenset[OperatorKey]) -> int:
    """Return the number of the space group of operators in any setting, 0 if it is not found."""
    import numpy as np
    import spglib

    known = _numbers_by_keys().get(keys)
    if known:
        return known
    table = np.array(sorted(keys), np.int64)
    # It raises no error but returns None if it finds no group.
    found = spglib.get_spacegroup_type_from_symmetry(
        table[:, :9].reshape(-1, 3, 3), table[:, 9:] / DENOMINATOR, symprec=1e-5
    )
    return found.number if found else 0


@lru_cache(maxsize=1)
def _all_settings() -> tuple[Setting, ...]:
    import gemmi

    return tuple(_setting(group) for group in gemmi.spacegroup_table())


@lru_cache(maxsize=1)
def _tables_settings() -> tuple[Setting, ...]:
    import gemmi

    return tuple(_setting(group) for group in gemmi.spacegroup_table_itb())


def _setting(group) -> Setting:  # noqa: ANN001 - a gemmi.SpaceGroup
    mark = group.ext if group.ext in {"1", "2", "H", "R"} else ""
    return Setting(group.xhm(), group.number, mark, group.hall)


@lru_cache(maxsize=1)
def _numbers_by_keys() -> dict[frozenset[OperatorKey], int]:
    return {setting.keys: setting.number for setting in _all_settings()}


@lru_cache(maxsize=1)
def _settings_by_name() -> dict[str, tuple[Setting, ...]]:
    """Return the settings by symbol, in lower case without spaces."""
    names: dict[str, list[Setting]] = {}
    for setting in (*_tables_settings(), *_all_settings()):
        symbol = _symbol(setting).lower()
        names_of = {symbol.replace(" ", "")}
        if setting.number >= 195:
            names_of.add(re.sub(r" -3\b", "3", symbol).replace(" ", ""))
        parts = symbol.split()
        if setting.mark == "H":
            names_of.add("".join(["h", *parts[1:]]))
        if setting.number in _E_GLIDE:
            names_of |= _e_glide_names(parts)
        for name in names_of:
            found = names.setdefault(name, [])
            if setting not in found:
                found.append(setting)
    table = {name: _without_extras(found) for name, found in names.items()}
    full = {long: table[short] for long, short in _full_symbols().items() if short in table}
    return _short_monoclinic() | full | table


def _full_symbols() -> dict[str, str]:
    """Return the short symbol of each full symbol, such as ``p21/n21/m21/a``, without spaces."""
    import spglib

    symbols: dict[str, str] = {}
    for hall_number in range(1, 531):
        found = spglib.get_spacegroup_type(hall_number)
        # Full monoclinic symbols are in the table of settings.
        if found is not None and found.number >= 16:
            short, long = (
                re.sub(r"[\s_]", "", symbol.lower())
                for symbol in (found.international, found.international_full)
            )
            symbols.setdefault(long, short)
    return symbols


def _without_extras(settings: list[Setting]) -> tuple[Setting, ...]:
    """Keep the first of the settings without a mark, or all settings that differ in their mark."""
    if settings[0].number in _E_GLIDE and len({_symbol(setting) for setting in settings}) > 1:
        # An e-glide has two older symbols; a standard symbol means the standard setting.
        standard = _symbol(settings_of_number(settings[0].number)[0])
        return tuple(s for s in settings if _symbol(s) == standard) or tuple(settings)
    unmarked = [setting for setting in settings if not setting.mark]
    return tuple(unmarked[:1] or settings)


def _symbol(setting: Setting) -> str:
    """Return the symbol without the mark of the origin or the axes."""
    return setting.name.partition(":")[0]


def _e_glide_names(parts: list[str]) -> set[str]:
    """Return the symbol with ``e`` for each glide plane, of which one is the right symbol."""
    return {
        "".join([*parts[:at], "e", *parts[at + 1 :]])
        for at in range(1, len(parts))
        if parts[at] in {"a", "b", "c"}
    }


def _short_monoclinic() -> dict[str, tuple[Setting, ...]]:
    """Return the settings of monoclinic symbols without the 1s: unique axis b, otherwise c, a."""
    names: dict[str, list[Setting]] = {}
    for axis in (2, 3, 1):
        for setting in _tables_settings():
            parts = setting.name.lower().split()
            if 3 <= setting.number <= 15 and len(parts) == 4 and parts[axis] != "1":
                names.setdefault(parts[0] + parts[axis], []).append(setting)
    return {name: tuple(settings) for name, settings in names.items()}


@lru_cache(maxsize=1)
def _qualifiers() -> dict[str, str]:
    import gemmi

    return {group.hall: group.qualifier for group in gemmi.spacegroup_table()}


def _qualifier(hall: str) -> str:
    return _qualifiers().get(hall, "")


@lru_cache(maxsize=1024)
def _operators(hall: str) -> Operators:
    import gemmi

    return to_operators(gemmi.symops_from_hall(hall))


@lru_cache(maxsize=1024)
def _keys(hall: str) -> frozenset[OperatorKey]:
    import gemmi

    return operator_keys(gemmi.symops_from_hall(hall))
