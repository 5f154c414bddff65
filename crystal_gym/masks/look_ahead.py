"""Elements that can be assigned next so that a valid composition can still be reached.

A composition is neutral if each of its elements can take one oxidation state such that all charges
cancel and every cation is less electronegative than every anion. It is valid, by the rule
``strict`` of ``crystal_gym.crystals.validity``, if it also contains an element that is not a metal.
For a partly filled crystal, this is a question about all compositions that contain the present one.
It is answered exactly, without enumerating them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate

import numpy as np

from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.crystals.validity import RULES, ion, is_metal

RULE = "strict"
# The largest absolute oxidation state.
LARGEST_CHARGE = 9


@dataclass(frozen=True)
class Ion:
    """An element and its possible charges.

    Attributes:
        action: Index of the element in the vocabulary.
        level: Rank of its electronegativity; elements of equal electronegativity share a rank.
        positive: Positive oxidation states.
        negative: Absolute values of the negative oxidation states.
        metal: Whether the element is a metal.
    """

    action: int
    level: int
    positive: tuple[int, ...]
    negative: tuple[int, ...]
    metal: bool


def ions_of(
    vocabulary: Vocabulary, oxidation_states: str = RULES[RULE].oxidation_states
) -> tuple[Ion, ...]:
    """Return the elements that can be in a neutral composition, by ascending electronegativity.

    Args:
        vocabulary: The elements.
        oxidation_states: Name of the set of oxidation states, see ``validity.ion``.
    """
    known = []
    for action, number in enumerate(vocabulary.atomic_numbers.tolist()):
        electronegativity, states = ion(number, oxidation_states)
        if electronegativity is not None and states:
            known.append((electronegativity, action, states, is_metal(number)))
    known.sort()
    levels = sorted({electronegativity for electronegativity, *_ in known})
    return tuple(
        Ion(
            action,
            levels.index(electronegativity),
            tuple(state for state in states if state > 0),
            tuple(-state for state in states if state < 0),
            metal,
        )
        for electronegativity, action, states, metal in known
    )


def allowed_ions(ions: Sequence[Ion], counts: Sequence[int], empty: int) -> np.ndarray:
    """Find the ions that can be added so that a valid composition can still be reached.

    Args:
        ions: I ions in ascending order of electronegativity.
        counts: Number of sites filled with each ion, (I,).
        empty: m, the number of empty sites, at least 1.

    Returns:
        bool (I,).
    """
    nonmetals = [i for i, ion in enumerate(ions) if not ion.metal]
    if any(counts[i] for i in nonmetals):
        return _neutral_ions(ions, counts, empty)
    allowed = np.zeros(len(ions), bool)
    if empty == 1:
        allowed[nonmetals] = _neutral_ions(ions, counts, 1)[nonmetals]
    elif nonmetals:
        # One of the empty sites must receive a non-metal. With many empty sites, the most
        # electronegative one leaves all ions possible.
        allowed = _allowed_with(nonmetals[-1], ions, counts, empty)
        bound = allowed if allowed.all() else _neutral_ions(ions, counts, empty)
        for i in reversed(nonmetals[:-1]):
            if bound[i] and (allowed < bound).any():
                allowed |= _allowed_with(i, ions, counts, empty)
    return allowed


def _allowed_with(
    nonmetal: int, ions: Sequence[Ion], counts: Sequence[int], empty: int
) -> np.ndarray:
    """Find the ions that can be added next if an absent non-metal gets one of the empty sites."""
    with_nonmetal = [count + (i == nonmetal) for i, count in enumerate(counts)]
    allowed = _neutral_ions(ions, with_nonmetal, empty - 1)
    allowed[nonmetal] |= allowed.any()
    return allowed


def _neutral_ions(ions: Sequence[Ion], counts: Sequence[int], empty: int) -> np.ndarray:
    """Find the ions that can be added so that a neutral composition can still be reached."""
    mirrored = [
        Ion(ion.action, -ion.level, ion.negative, ion.positive, ion.metal) for ion in reversed(ions)
    ]
    as_anion = _allowed_cations(mirrored, list(reversed(counts)), empty)[::-1]
    return _allowed_cations(ions, counts, empty) | as_anion


def _allowed_cations(ions: Sequence[Ion], counts: Sequence[int], empty: int) -> np.ndarray:
    """Find the ions that can be added as cations; see ``_neutral_ions``.

    The ions are processed in order, as cations up to some level and as anions above it. A *state*
    of the search is the number j of newly filled sites and the total charge c. A set of states is
    one integer with the bits j W + c, so that adding an ion's atoms shifts all of them at once.
    """
    # Wide enough that charges which an inverse step moves below 0 do not collide with others.
    width = 2 * LARGEST_CHARGE * (sum(counts) + empty) + 1
    all_bits = (1 << (empty + 1) * width) - 1

    def forward(reachable: int, count: int, charges: Iterable[int], added: int = 0) -> int:
        """Return the states after an ion on ``count`` sites takes one of its charges."""
        reached = 0 if count or added else reachable
        for charge in charges:
            atom = width + charge
            first = reachable << count * charge + max(added, not count) * atom & all_bits
            reached |= _shift_union(first, atom, empty) & all_bits
        return reached

    def backward(finish: int, count: int, charges: Iterable[int]) -> int:
        """Return the states from which ``forward`` leads to one of the given states."""
        reached = 0 if count else finish
        for charge in charges:
            atom = width + charge
            first = finish >> count * charge + (not count) * atom
            reached |= _shift_union(first, -atom, empty)
        return reached

    def neutralized(finish: int, count: int, charges: Iterable[int]) -> int:
        """Return the states that an anion, and the anions after it, make neutral."""
        reached = 0 if count else finish
        for charge in charges:
            atom = width - charge
            first = finish << count * charge >> (not count) * atom
            reached |= _shift_union(first, -atom, empty)
        return reached

    pairs = list(zip(ions, counts, strict=True))
    before = list(
        accumulate(pairs, lambda x, pair: forward(x, pair[1], pair[0].positive), initial=1)
    )
    # States that become neutral if all ions from an index on are anions.
    neutral = list(
        accumulate(
            reversed(pairs),
            lambda x, pair: neutralized(x, pair[1], pair[0].negative),
            initial=1 << empty * width,
        )
    )[::-1]
    allowed = np.zeros(len(ions), bool)
    finish = neutral[-1]
    for i in reversed(range(len(ions))):
        with_one_more = forward(before[i], counts[i], ions[i].positive, added=1)
        allowed[i] = bool(with_one_more & finish)
        finish = backward(finish, counts[i], ions[i].positive)
        if i == 0 or ions[i - 1].level != ions[i].level:
            finish |= neutral[i]
    return allowed


def _shift_union(bits: int, shift: int, times: int) -> int:
    """Return the union of the bits shifted 0, 1, … times, up to at least ``times`` times."""
    steps = range(times.bit_length())
    if shift > 0:
        return reduce(lambda x, step: x | x << (shift << step), steps, bits)
    return reduce(lambda x, step: x | x >> (-shift << step), steps, bits)
