"""Which elements can be put next, so that the composition can still come out neutral.

A composition is neutral, as ``crystal_gym.crystals.validity`` has it under the rule ``strict``, when each of
its elements can take one oxidation state such that all charges cancel and every cation is less
electronegative than every anion. With sites still empty that is a question about all compositions
that contain the present one; it is answered exactly, without going through them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate

import numpy as np

from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.crystals.validity import RULES, ion

RULE = "strict"
# No oxidation state is larger.
LARGEST_CHARGE = 9


@dataclass(frozen=True)
class Ion:
    """An element and the charges that it can have.

    Attributes:
        action: its place in the vocabulary.
        level: rank of its electronegativity; equal ones share a rank.
        positive: its positive oxidation states.
        negative: its negative ones, without their sign.
    """

    action: int
    level: int
    positive: tuple[int, ...]
    negative: tuple[int, ...]


def ions_of(vocabulary: Vocabulary) -> tuple[Ion, ...]:
    """The vocabulary's elements that can be part of a neutral composition, from least to most
    electronegative.
    """  # noqa: D205 - one sentence
    known = []
    for action, number in enumerate(vocabulary.atomic_numbers.tolist()):
        electronegativity, states = ion(number, RULES[RULE].oxidation_states)
        if electronegativity is not None and states:
            known.append((electronegativity, action, states))
    known.sort()
    levels = sorted({electronegativity for electronegativity, _, _ in known})
    return tuple(
        Ion(
            action,
            levels.index(electronegativity),
            tuple(state for state in states if state > 0),
            tuple(-state for state in states if state < 0),
        )
        for electronegativity, action, states in known
    )


def allowed_ions(ions: Sequence[Ion], counts: Sequence[int], empty: int) -> np.ndarray:
    """The ions that a neutral composition can go on with.

    Args:
        ions: I of them, in the order of their electronegativity.
        counts: how many sites each fills already, (I,).
        empty: m, sites still to be filled, at least 1.

    Returns:
        bool (I,): True where one more of this ion leaves a neutral finish in reach.
    """
    mirrored = [Ion(ion.action, -ion.level, ion.negative, ion.positive) for ion in reversed(ions)]
    as_anion = _allowed_cations(mirrored, list(reversed(counts)), empty)[::-1]
    return _allowed_cations(ions, counts, empty) | as_anion


def _allowed_cations(ions: Sequence[Ion], counts: Sequence[int], empty: int) -> np.ndarray:
    """The same, if the ion asked for becomes a cation.

    The ions are gone through in their order, first as cations, from some level on as anions. On the
    way a *situation* is the number j of sites newly filled and the charge c so far; sets of them
    are the bits j W + c of one integer, and adding an ion's atoms shifts all of them at once.
    """
    # So wide that charges which an inverse step takes below 0 are never mistaken for others.
    width = 2 * LARGEST_CHARGE * (sum(counts) + empty) + 1
    everything = (1 << (empty + 1) * width) - 1

    def forward(situations: int, count: int, states: Iterable[int], fresh: int = 0) -> int:
        """Situations after an ion that fills ``count`` sites took one of its states."""
        reached = 0 if count or fresh else situations
        for state in states:
            atom = width + state
            start = situations << count * state + max(fresh, not count) * atom & everything
            reached |= _repeated(start, atom, empty) & everything
        return reached

    def backward(situations: int, count: int, states: Iterable[int]) -> int:
        """Situations from which that leads to one of those given."""
        reached = 0 if count else situations
        for state in states:
            atom = width + state
            reached |= _repeated(situations >> count * state + (not count) * atom, -atom, empty)
        return reached

    def against(situations: int, count: int, states: Iterable[int]) -> int:
        """Situations that an anion's atoms, and those of the ions after it, make neutral."""
        reached = 0 if count else situations
        for state in states:
            atom = width - state
            start = situations << count * state >> (not count) * atom
            reached |= _repeated(start, -atom, empty)
        return reached

    pairs = list(zip(ions, counts, strict=True))
    before = list(
        accumulate(pairs, lambda x, pair: forward(x, pair[1], pair[0].positive), initial=1)
    )
    # Neutral, if all ions from here on are anions.
    neutral = list(
        accumulate(
            reversed(pairs),
            lambda x, pair: against(x, pair[1], pair[0].negative),
            initial=1 << empty * width,
        )
    )[::-1]
    allowed = np.zeros(len(ions), bool)
    finish = neutral[-1]
    for i in reversed(range(len(ions))):
        one_more = forward(before[i], counts[i], ions[i].positive, fresh=1)
        allowed[i] = bool(one_more & finish)
        finish = backward(finish, counts[i], ions[i].positive)
        if i == 0 or ions[i - 1].level != ions[i].level:
            finish |= neutral[i]
    return allowed


def _repeated(situations: int, shift: int, times: int) -> int:
    """The union of the situations shifted 0, 1, … and at least ``times`` times."""
    steps = range(times.bit_length())
    if shift > 0:
        return reduce(lambda x, step: x | x << (shift << step), steps, situations)
    return reduce(lambda x, step: x | x >> (-shift << step), steps, situations)
