"""The mask ``charge-neutral``: only elements from which a neutral composition is in reach."""

import functools
from collections.abc import Sequence

import numpy as np

from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.masks.look_ahead import Ion, allowed_ions, ions_of
from crystal_gym.masks.multisets import all_multisets, n_multisets, place_table, without_one

# Up to so many compositions of a whole cell (5 sites, 70 elements), all answers are worked out
# beforehand, in a few seconds; with more sites their charges would not fit in 64 bits.
MOST_COMPOSITIONS = 2**24
MOST_SITES = 7
# Answers remembered of larger cells.
_MEMORY = 2**16


def charge_neutral(table: EpisodeTable, state: EpisodeState) -> np.ndarray:
    """The elements after which a composition valid under the rule ``strict`` can be reached.

    Where none can be, because the elements put so far or the vocabulary do not allow it, all
    elements are allowed; from an empty crystal, who keeps to the mask never comes there.

    Returns:
        bool (V,) or (B, V).
    """
    elements, n_sites = np.atleast_2d(state.elements), np.atleast_1d(state.n_sites)
    sizes = set(n_sites.tolist())
    if len(sizes) == 1:
        allowed = _answers(table.vocabulary, sizes.pop())(elements)
    else:
        allowed = np.empty((len(elements), table.n_elements), bool)
        for size in sizes:
            which = n_sites == size
            allowed[which] = _answers(table.vocabulary, size)(elements[which])
    return allowed if state.rows else allowed[0]


@functools.lru_cache(maxsize=64)
def _answers(vocabulary: Vocabulary, n_sites: int) -> "MaskTable | MaskSearch":
    ions = ions_of(vocabulary)
    small = n_sites <= MOST_SITES and n_multisets(len(ions), n_sites) <= MOST_COMPOSITIONS
    return (MaskTable if small else MaskSearch)(ions, len(vocabulary), n_sites)


class MaskSearch:
    """Answers for cells of n sites, each searched for when it is first asked.

    Args:
        ions: of the vocabulary.
        n_elements: V.
        n_sites: n.
    """

    def __init__(self, ions: Sequence[Ion], n_elements: int, n_sites: int) -> None:
        self.ions, self.n_elements, self.n_sites = tuple(ions), n_elements, n_sites
        self._searched = functools.lru_cache(maxsize=_MEMORY)(self._search)

    def __call__(self, elements: np.ndarray) -> np.ndarray:
        """Allowed elements, bool (B, V), for codes (B, N) of cells with n sites."""
        rows = np.sort(elements, axis=1).astype(np.int16)
        return np.stack([self._searched(row.tobytes()) for row in rows])

    def _search(self, row: bytes) -> np.ndarray:
        codes = np.frombuffer(row, np.int16)
        counts = np.bincount(codes[codes > 0] - 1, minlength=self.n_elements)
        of_ions = [int(counts[ion.action]) for ion in self.ions]
        filled = int(counts.sum())
        allowed = np.zeros(self.n_elements, bool)
        if filled < self.n_sites and sum(of_ions) == filled:
            actions = [ion.action for ion in self.ions]
            allowed[actions] = allowed_ions(self.ions, of_ions, self.n_sites - filled)
        return allowed if allowed.any() else ~allowed


class MaskTable:
    """Answers for cells of n sites, all worked out beforehand: looked up by whole batches.

    From every neutral composition one element is taken away, in every way: it may be put there.
    What is left can be finished, and so on down to the empty cell.

    Args:
        ions: of the vocabulary.
        n_elements: V.
        n_sites: n, at most ``MOST_SITES``.
    """

    def __init__(self, ions: Sequence[Ion], n_elements: int, n_sites: int) -> None:
        actions = np.array([ion.action for ion in ions], np.int64)
        places = place_table(len(ions), n_sites)
        blocks = []
        finishable = neutral_compositions(ions, n_sites)
        for size in reversed(range(n_sites)):
            rows = all_multisets(len(ions), size + 1)[finishable]
            block = np.zeros((n_multisets(len(ions), size), n_elements), bool)
            block[without_one(rows, places), actions[rows]] = True
            finishable = block.any(axis=1)
            block[~finishable] = True
            blocks.append(block)
        blocks.reverse()
        # The last row is for full cells, and for those with an element that is no ion.
        self._table = np.concatenate([*blocks, np.ones((1, n_elements), bool)])
        self._begin = np.cumsum([0, *map(len, blocks)])
        # Codes as ions; then come "no ion", which leads out of the table, and "nothing", which adds
        # 0 to a place. Nothing is last, so that sites beyond the cell's stand behind all others.
        no_ion, nothing = len(ions), len(ions) + 1
        self._ion = np.full(n_elements + 2, no_ion, np.int16)
        self._ion[actions + 1] = np.arange(len(ions))
        self._ion[[0, -1]] = nothing
        self._nothing = nothing
        self._places = np.insert(places, no_ion, len(self._table), axis=1)

    def __call__(self, elements: np.ndarray) -> np.ndarray:
        """Allowed elements, bool (B, V), for codes (B, N) of cells with n sites."""
        # Sites first: whole rows are then compared, several times faster than sorting each crystal.
        ions = self._ion.take(elements.T)
        _sort_columns(ions)
        place = self._begin.take((ions != self._nothing).sum(axis=0))
        for places, ion in zip(self._places, ions, strict=False):
            place += places.take(ion)
        return self._table.take(np.minimum(place, len(self._table) - 1), axis=0)


def _sort_columns(values: np.ndarray) -> None:
    """Sort each column of a few rows, in place: neighbors change places, odd and even in turn."""
    for turn in range(len(values)):
        for i in range(turn % 2, len(values) - 1, 2):
            lower = np.minimum(values[i], values[i + 1])
            np.maximum(values[i], values[i + 1], out=values[i + 1])
            values[i] = lower


def neutral_compositions(ions: Sequence[Ion], n_sites: int) -> np.ndarray:
    """Which fillings of n sites with ions are neutral, bool, by their places as multisets."""
    n_ions = len(ions)
    places = place_table(n_ions, n_sites)
    positive = _charges([ion.positive for ion in ions], n_sites)
    negative = _charges([ion.negative for ion in ions], n_sites)
    first = [next(i for i in range(n_ions) if ions[i].level == ion.level) for ion in ions]
    neutral = np.zeros(n_multisets(n_ions, n_sites), bool)
    for n_cations in range(1, n_sites):
        anions = all_multisets(n_ions, n_sites - n_cations)
        charges = negative[n_sites - n_cations]
        above = [places[n_cations + i][anions[:, i]] for i in range(n_sites - n_cations)]
        offset = np.sum(above, axis=0)
        for which in np.flatnonzero(charges):
            # All cations that are less electronegative than the least of these anions.
            count = n_multisets(first[anions[which, 0]], n_cations)
            here = slice(offset[which], offset[which] + count)
            neutral[here] |= (positive[n_cations][:count] & charges[which]) != 0
    return neutral


def _charges(states: Sequence[tuple[int, ...]], largest: int) -> list[np.ndarray]:
    """The charges that multisets of ions of one sign can have, as bits, for sizes 0 to largest."""
    n_ions = len(states)
    places = place_table(n_ions, largest)
    charges = [np.ones(1, np.uint64)]
    for size in range(1, largest + 1):
        reached = np.zeros(n_multisets(n_ions, size), np.uint64)
        for ion in range(n_ions):
            # All of one element share a state: those of the last ion are taken together.
            for same in range(1, size + 1):
                others = charges[size - same][: n_multisets(ion, size - same)]
                begin = places[size - same :, ion][:same].sum()
                for state in states[ion]:
                    reached[begin : begin + len(others)] |= others << np.uint64(same * state)
        charges.append(reached)
    return charges
