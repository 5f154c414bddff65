"""The masks ``charge-neutral`` and ``charge-neutral-common``, which keep a composition valid."""

import functools
from collections.abc import Sequence

import numpy as np

from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.crystals.validity import COMMON_STATES
from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import UnknownNameError
from crystal_gym.masks.look_ahead import Ion, allowed_ions, ions_of
from crystal_gym.masks.multisets import all_multisets, n_multisets, rank_table, ranks_without_one

# Largest number of compositions of a whole cell (5 sites, 70 elements) for which the mask is
# tabulated in advance, in a few seconds. Charges of more sites do not fit in 64 bits.
MOST_COMPOSITIONS = 2**24
MOST_SITES = 7
# Number of cached masks of larger cells.
_CACHED_MASKS = 2**16


# Sets of oxidation states by the value of ``states``.
STATES = {"smact14": "smact14", "common": COMMON_STATES}


def charge_neutral(table: EpisodeTable, state: EpisodeState, states: str = "smact14") -> np.ndarray:
    """Allow the elements from which a composition valid under the rule ``strict`` can be reached.

    With ``states="common"``, the rule is the same with fewer oxidation states per element.

    If no such composition can be reached, because of the elements assigned so far or because of the
    vocabulary, all elements are allowed. The first case never occurs if an agent follows the mask
    from an empty crystal.

    Args:
        table: The crystals.
        state: One episode or a batch of B.
        states: Oxidation states: ``smact14``, the states of the rule ``strict``, or ``common``, the
            common oxidation states in pymatgen. On Perov-5, they admit 98.7 % and 30.4 % of the
            crystals.

    Returns:
        bool (V,) or (B, V).

    Raises:
        UnknownNameError: If there are no such oxidation states.
    """
    if not isinstance(states, str) or states not in STATES:
        raise UnknownNameError("oxidation states", states, STATES)
    elements, n_sites = np.atleast_2d(state.elements), np.atleast_1d(state.n_sites)
    sizes = set(n_sites.tolist())
    if len(sizes) == 1:
        allowed = _mask_for(table.vocabulary, sizes.pop(), states)(elements)
    else:
        allowed = np.empty((len(elements), table.n_elements), bool)
        for size in sizes:
            rows = n_sites == size
            allowed[rows] = _mask_for(table.vocabulary, size, states)(elements[rows])
    return allowed if state.rows else allowed[0]


@functools.lru_cache(maxsize=64)
def _mask_for(vocabulary: Vocabulary, n_sites: int, states: str) -> "MaskTable | MaskSearch":
    ions = ions_of(vocabulary, STATES[states])
    small = n_sites <= MOST_SITES and n_multisets(len(ions), n_sites) <= MOST_COMPOSITIONS
    return (MaskTable if small else MaskSearch)(ions, len(vocabulary), n_sites)


class MaskSearch:
    """Masks for cells of n sites, each computed when it is first needed.

    Args:
        ions: Ions of the vocabulary.
        n_elements: V.
        n_sites: n.
    """

    def __init__(self, ions: Sequence[Ion], n_elements: int, n_sites: int) -> None:
        self.ions, self.n_elements, self.n_sites = tuple(ions), n_elements, n_sites
        self._cached_search = functools.lru_cache(maxsize=_CACHED_MASKS)(self._search)

    def __call__(self, elements: np.ndarray) -> np.ndarray:
        """Return the allowed elements, bool (B, V).

        Args:
            elements: Codes of cells with n sites, (B, N), padded with -1.
        """
        rows = np.sort(elements, axis=1).astype(np.int16)
        return np.stack([self._cached_search(row.tobytes()) for row in rows])

    def _search(self, row: bytes) -> np.ndarray:
        codes = np.frombuffer(row, np.int16)
        counts = np.bincount(codes[codes > 0] - 1, minlength=self.n_elements)
        ion_counts = [int(counts[ion.action]) for ion in self.ions]
        n_filled = int(counts.sum())
        allowed = np.zeros(self.n_elements, bool)
        if n_filled < self.n_sites and sum(ion_counts) == n_filled:
            actions = [ion.action for ion in self.ions]
            allowed[actions] = allowed_ions(self.ions, ion_counts, self.n_sites - n_filled)
        return allowed if allowed.any() else ~allowed


class MaskTable:
    """Masks for cells of n sites, tabulated in advance and looked up for whole batches.

    The table is built backwards from the valid compositions: removing one ion from a composition
    gives a smaller composition on which this ion is allowed. The smaller compositions are then
    treated in the same way, down to the empty cell.

    Args:
        ions: Ions of the vocabulary.
        n_elements: V.
        n_sites: n, at most ``MOST_SITES``.
    """

    def __init__(self, ions: Sequence[Ion], n_elements: int, n_sites: int) -> None:
        actions = np.array([ion.action for ion in ions], np.int64)
        ranks = rank_table(len(ions), n_sites)
        blocks = []
        can_finish = valid_compositions(ions, n_sites)
        for size in reversed(range(n_sites)):
            rows = all_multisets(len(ions), size + 1)[can_finish]
            block = np.zeros((n_multisets(len(ions), size), n_elements), bool)
            block[ranks_without_one(rows, ranks), actions[rows]] = True
            can_finish = block.any(axis=1)
            block[~can_finish] = True
            blocks.append(block)
        blocks.reverse()
        # The last row is for full cells, and for cells with an element that is not an ion.
        self._table = np.concatenate([*blocks, np.ones((1, n_elements), bool)])
        self._block_start = np.cumsum([0, *map(len, blocks)])
        # Codes map to ions, then "not an ion", whose rank is beyond the table, and "empty", which
        # adds 0 to the rank. "Empty" is the largest, so that padding is sorted to the end.
        not_an_ion, empty = len(ions), len(ions) + 1
        self._ion = np.full(n_elements + 2, not_an_ion, np.int16)
        self._ion[actions + 1] = np.arange(len(ions))
        self._ion[[0, -1]] = empty
        self._empty = empty
        self._ranks = np.insert(ranks, not_an_ion, len(self._table), axis=1)

    def __call__(self, elements: np.ndarray) -> np.ndarray:
        """Return the allowed elements, bool (B, V).

        Args:
            elements: Codes of cells with n sites, (B, N), padded with -1.
        """
        # With sites as the first axis, sorting compares whole rows, which is several times faster
        # than sorting each crystal.
        ions = self._ion.take(elements.T)
        _sort_columns(ions)
        index = self._block_start.take((ions != self._empty).sum(axis=0))
        for ranks, ion in zip(self._ranks, ions, strict=False):
            index += ranks.take(ion)
        return self._table.take(np.minimum(index, len(self._table) - 1), axis=0)


def _sort_columns(values: np.ndarray) -> None:
    """Sort each column of a few rows in place, by odd-even transposition."""
    for turn in range(len(values)):
        for i in range(turn % 2, len(values) - 1, 2):
            lower = np.minimum(values[i], values[i + 1])
            np.maximum(values[i], values[i + 1], out=values[i + 1])
            values[i] = lower


def valid_compositions(ions: Sequence[Ion], n_sites: int) -> np.ndarray:
    """Find the multisets of n ions that are valid compositions, bool, by their rank.

    Args:
        ions: Ions in ascending order of electronegativity.
        n_sites: n.
    """
    valid = _neutral_compositions(ions, n_sites)
    metals = np.flatnonzero([ion.metal for ion in ions])
    rows = metals[all_multisets(len(metals), n_sites)]
    ranks = rank_table(len(ions), n_sites)
    valid[sum(ranks[i][rows[:, i]] for i in range(n_sites))] = False
    return valid


def _neutral_compositions(ions: Sequence[Ion], n_sites: int) -> np.ndarray:
    """Find the multisets of n ions that can be charge-neutral, bool, by their rank."""
    n_ions = len(ions)
    ranks = rank_table(n_ions, n_sites)
    positive = _reachable_charges([ion.positive for ion in ions], n_sites)
    negative = _reachable_charges([ion.negative for ion in ions], n_sites)
    first = [next(i for i in range(n_ions) if ions[i].level == ion.level) for ion in ions]
    neutral = np.zeros(n_multisets(n_ions, n_sites), bool)
    for n_cations in range(1, n_sites):
        anions = all_multisets(n_ions, n_sites - n_cations)
        charges = negative[n_sites - n_cations]
        anion_ranks = [ranks[n_cations + i][anions[:, i]] for i in range(n_sites - n_cations)]
        offset = np.sum(anion_ranks, axis=0)
        for row in np.flatnonzero(charges):
            # All multisets of cations below the least electronegative of these anions.
            count = n_multisets(first[anions[row, 0]], n_cations)
            block = slice(offset[row], offset[row] + count)
            neutral[block] |= (positive[n_cations][:count] & charges[row]) != 0
    return neutral


def _reachable_charges(states: Sequence[tuple[int, ...]], largest: int) -> list[np.ndarray]:
    """Return the total charges of multisets of ions of one sign, as bits, for sizes 0 to largest.

    Args:
        states: Absolute oxidation states of each ion.
        largest: Largest size.
    """
    n_ions = len(states)
    ranks = rank_table(n_ions, largest)
    charges = [np.ones(1, np.uint64)]
    for size in range(1, largest + 1):
        reached = np.zeros(n_multisets(n_ions, size), np.uint64)
        for ion in range(n_ions):
            # All atoms of an element have the same state, so the copies of the last ion are
            # handled together.
            for same in range(1, size + 1):
                others = charges[size - same][: n_multisets(ion, size - same)]
                begin = ranks[size - same :, ion][:same].sum()
                for state in states[ion]:
                    reached[begin : begin + len(others)] |= others << np.uint64(same * state)
        charges.append(reached)
    return charges
