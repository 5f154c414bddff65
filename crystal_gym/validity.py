"""Chemical validity of compositions by SMACT, remembered.

A composition is valid when oxidation states of its elements can cancel, the more electronegative
elements taking the negative ones (Davies et al., Chem 1, 617 (2016)). SMACT's own default set of
oxidation states changed over its versions, so every rule here names its set.
"""

import functools
from dataclasses import dataclass

import numpy as np

from crystal_gym.elements import SYMBOLS
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
    counts = {SYMBOLS[number - 1]: numbers.count(number) for number in numbers if number > 0}
    # SMACT lets single elements pass even where alloys may not.
    if not counts or (len(counts) == 1 and not RULES[rule].metals):
        return False
    from smact.screening import smact_validity

    try:
        return bool(
            smact_validity(
                "".join(f"{symbol}{count}" for symbol, count in counts.items()),
                oxidation_states_set=RULES[rule].oxidation_states,
                include_alloys=RULES[rule].metals,
            )
        )
    except KeyError:  # SMACT has no data on the heaviest elements
        return False
