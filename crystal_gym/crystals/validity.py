"""Chemical validity of compositions by SMACT, with a cache.

A composition is valid if its elements have oxidation states that sum to zero, with negative states
for the more electronegative elements (Davies et al., Chem 1, 617 (2016)). Metals are the elements
in SMACT's list ``smact.metals``, which contains Ge, Sb and Po, but not B, Si, As and Te. The
default set of oxidation states changed between versions of SMACT, so each rule names its set, and
``rule_description`` adds the version.
"""

import functools
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from crystal_gym.crystals.elements import SYMBOLS
from crystal_gym.errors import UnknownNameError

# Name of the common oxidation states in pymatgen, which are fewer than those of any set in SMACT.
COMMON_STATES = "pymatgen-common"

# Number of compositions in the cache, a few hundred bytes each.
_MEMORY = 2**18


@dataclass(frozen=True)
class ValidityRule:
    """A definition of validity.

    Attributes:
        oxidation_states: Name of the set of oxidation states in SMACT.
        metals: Whether all compositions of metals alone and all single elements are valid. If not,
            all of them are invalid, even if oxidation states of the metals can cancel.
    """

    oxidation_states: str
    metals: bool


RULES: dict[str, ValidityRule] = {
    # The definition in "Behavioral Cloning for Crystal Design" and in CDVAE.
    "smact14": ValidityRule("smact14", metals=True),
    "icsd24": ValidityRule("icsd24", metals=True),
    # SMACT's `include_alloys=False` still accepts metals whose charges can cancel, such as FeCo.
    "strict": ValidityRule("smact14", metals=False),
}


def rule_description(rule: str, smact_version: str | None = None) -> str:
    """Describe a rule in one line, with SMACT's version, for tables, cards and results files.

    Args:
        rule: A name in ``RULES``.
        smact_version: Version of SMACT that was used (default: the installed one).

    Returns:
        For example ``"smact14 (SMACT 4.0.2, oxidation states smact14; ...)"``.

    Raises:
        UnknownNameError: If there is no such rule.
    """
    definition = _get_rule(rule)
    smact_version = smact_version or version("smact")
    exceptions = "valid" if definition.metals else "invalid"
    return (
        f"{rule} (SMACT {smact_version}, oxidation states {definition.oxidation_states}; "
        f"single elements and compositions of metals alone are {exceptions})"
    )


def is_valid(atomic_numbers: np.ndarray, rule: str = "smact14") -> np.ndarray:
    """Compute whether compositions are valid.

    Args:
        atomic_numbers: Elements of the sites in any order, (..., N), 0 for empty sites and padding.
        rule: A name in ``RULES``.

    Returns:
        bool (...). A crystal without elements is invalid.

    Raises:
        UnknownNameError: If there is no such rule.
    """
    _get_rule(rule)
    atomic_numbers = np.asarray(atomic_numbers)
    rows = np.sort(atomic_numbers.reshape(-1, atomic_numbers.shape[-1]), axis=1)
    valid = [_sorted_is_valid(tuple(row), rule) for row in rows.tolist()]
    return np.array(valid, bool).reshape(atomic_numbers.shape[:-1])


def _get_rule(rule: str) -> ValidityRule:
    if not isinstance(rule, str) or rule not in RULES:
        raise UnknownNameError("validity rule", rule, RULES)
    return RULES[rule]


@functools.lru_cache(maxsize=_MEMORY)
def _sorted_is_valid(numbers: tuple[int, ...], rule: str) -> bool:
    """Compute SMACT's ``smact_validity`` from the reachable charges.

    SMACT tries all combinations of oxidation states, which are too many for the dozens of elements
    that a filling of a large cell can contain.
    """
    counts = {number: numbers.count(number) for number in numbers if number > 0}
    metals = RULES[rule].metals
    if not counts:
        return False
    if len(counts) == 1 or all(is_metal(number) for number in counts):
        return metals
    by_electronegativity: dict[float, list[tuple[int, tuple[int, ...]]]] = {}
    for number, count in counts.items():
        electronegativity, states = ion(number, RULES[rule].oxidation_states)
        if electronegativity is None or not states:
            return False
        by_electronegativity.setdefault(electronegativity, []).append((count, states))
    levels = [by_electronegativity[level] for level in sorted(by_electronegativity)]
    # Elements below some level of electronegativity are cations or neutral, the others are anions
    # or neutral, and elements of one level are on the same side. Bit c of a number is set if the
    # total charge can be c.
    positive = [1]
    for level in levels:
        positive.append(_reached(positive[-1], level, sign=1))
    negative = [1]
    for level in reversed(levels):
        negative.append(_reached(negative[-1], level, sign=-1))
    return any(up & down for up, down in zip(positive, reversed(negative), strict=True))


def _reached(charges: int, level: list[tuple[int, tuple[int, ...]]], sign: int) -> int:
    """Return the total charges, as bits, after the elements of a level take states of this sign."""
    for count, states in level:
        shifts = {count * abs(state) for state in states if state * sign >= 0}
        charges = functools.reduce(lambda bits, shift: bits | charges << shift, shifts, 0)
    return charges


@functools.cache
def ion(number: int, oxidation_states: str) -> tuple[float | None, tuple[int, ...]]:
    """Return the Pauling electronegativity of an element in SMACT, and its oxidation states.

    Args:
        number: Atomic number.
        oxidation_states: Name of a set in SMACT, or ``COMMON_STATES``.
    """
    from smact import Element

    try:
        element = Element(SYMBOLS[number - 1])
    except KeyError:  # SMACT has no data for the heaviest elements
        return None, ()
    if oxidation_states == COMMON_STATES:
        from pymatgen.core import Element as PymatgenElement

        states = PymatgenElement.from_Z(number).common_oxidation_states
    else:
        states = getattr(element, f"oxidation_states_{oxidation_states}")
    return element.pauling_eneg, tuple(states or ())


@functools.cache
def is_metal(number: int) -> bool:
    """Return whether an element is a metal in SMACT."""
    from smact import metals

    return SYMBOLS[number - 1] in metals
