"""Chemical validity of compositions by SMACT, remembered.

A composition is valid when oxidation states of its elements can cancel, the more electronegative
elements taking the negative ones (Davies et al., Chem 1, 617 (2016)). SMACT's own default set of
oxidation states changed over its versions, so every rule here names its set.
"""

import functools
from dataclasses import dataclass

import numpy as np

from crystal_gym.crystals.elements import SYMBOLS
from crystal_gym.errors import UnknownNameError

# Compositions remembered: a few hundred bytes each.
_MEMORY = 2**18


@dataclass(frozen=True)
class ValidityRule:
    """What counts as valid.

    Attributes:
        oxidation_states: SMACT's name of the set of oxidation states.
        metals: whether alloys (metals only) and single elements count as valid.
    """

    oxidation_states: str
    metals: bool


RULES: dict[str, ValidityRule] = {
    # The measure of "Behavioral Cloning for Crystal Design" and of CDVAE.
    "smact14": ValidityRule("smact14", metals=True),
    "icsd24": ValidityRule("icsd24", metals=True),
    # Cannot be had by filling every site with one element or with metals.
    "strict": ValidityRule("smact14", metals=False),
}


def is_valid(atomic_numbers: np.ndarray, rule: str = "smact14") -> np.ndarray:
    """Whether compositions are valid.

    Args:
        atomic_numbers: the elements on the sites, (..., N), 0 where there is none; how the sites
            are ordered does not matter.
        rule: a name of ``RULES``.

    Returns:
        bool (...). A crystal without any element is not valid.

    Raises:
        UnknownNameError: no such rule.
    """
    if rule not in RULES:
        raise UnknownNameError("validity rule", rule, RULES)
    atomic_numbers = np.asarray(atomic_numbers)
    rows = np.sort(atomic_numbers.reshape(-1, atomic_numbers.shape[-1]), axis=1)
    answers = [_sorted_is_valid(tuple(row), rule) for row in rows.tolist()]
    return np.array(answers, bool).reshape(atomic_numbers.shape[:-1])


@functools.lru_cache(maxsize=_MEMORY)
def _sorted_is_valid(numbers: tuple[int, ...], rule: str) -> bool:
    """SMACT's ``smact_validity``, by reachable charges instead of every combination of states.

    A filling of a large cell can hold dozens of elements, whose states no one can combine.
    """
    counts = {number: numbers.count(number) for number in numbers if number > 0}
    metals = RULES[rule].metals
    # SMACT lets single elements pass even where alloys may not.
    if len(counts) <= 1:
        return bool(counts) and metals
    if metals and all(_is_metal(number) for number in counts):
        return True
    by_electronegativity: dict[float, list[tuple[int, tuple[int, ...]]]] = {}
    for number, count in counts.items():
        electronegativity, states = ion(number, RULES[rule].oxidation_states)
        if electronegativity is None or not states:
            return False
        by_electronegativity.setdefault(electronegativity, []).append((count, states))
    levels = [by_electronegativity[level] for level in sorted(by_electronegativity)]
    # Below some level of electronegativity elements are cations or neutral, from it on anions or
    # neutral; a level's elements are on one side. Bit c of a number tells that charge c is reached.
    positive = [1]
    for level in levels:
        positive.append(_reached(positive[-1], level, sign=1))
    negative = [1]
    for level in reversed(levels):
        negative.append(_reached(negative[-1], level, sign=-1))
    return any(up & down for up, down in zip(positive, reversed(negative), strict=True))


def _reached(charges: int, level: list[tuple[int, tuple[int, ...]]], sign: int) -> int:
    """Charges (as bits) after every element of a level took one of its states of this sign."""
    for count, states in level:
        shifts = {count * abs(state) for state in states if state * sign >= 0}
        charges = functools.reduce(lambda bits, shift: bits | charges << shift, shifts, 0)
    return charges


@functools.cache
def ion(number: int, oxidation_states: str) -> tuple[float | None, tuple[int, ...]]:
    """SMACT's Pauling electronegativity and oxidation states of an element."""
    from smact import Element

    try:
        element = Element(SYMBOLS[number - 1])
    except KeyError:  # SMACT has no data on the heaviest elements
        return None, ()
    states = getattr(element, f"oxidation_states_{oxidation_states}")
    return element.pauling_eneg, tuple(states or ())


@functools.cache
def _is_metal(number: int) -> bool:
    from smact import metals

    return SYMBOLS[number - 1] in metals
