"""The mask ``charge-neutral``: exactly the elements that keep a valid composition reachable."""

from itertools import combinations_with_replacement

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smact import metals

import crystal_gym
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.elements import SYMBOLS, Vocabulary
from crystal_gym.crystals.validity import RULES, ion, is_valid
from crystal_gym.episode import EpisodeTable, fill, start
from crystal_gym.errors import UnknownNameError
from crystal_gym.masks import resolve_mask
from crystal_gym.masks.charge_neutral import MaskSearch, MaskTable, charge_neutral
from crystal_gym.masks.look_ahead import LARGEST_CHARGE, RULE, ions_of
from crystal_gym.masks.multisets import (
    all_multisets,
    n_multisets,
    rank_table,
    ranks_without_one,
)

# Helium has no electronegativity, so no neutral composition contains it. The charges of Fe, Co, Au
# and Sb can cancel those of other metals.
METALS = ("Li", "Ti", "Fe", "Co", "Sr", "Au", "Sb", "K")
ELEMENTS = ("H", "He", "N", "O", "F", "S", "Cl", "Te", *METALS)


def brute_force_mask(vocabulary: Vocabulary, filled: tuple[int, ...], n_sites: int) -> np.ndarray:
    """Return the allowed elements by trying all completions; all elements if none is valid."""
    empty = n_sites - len(filled)
    allowed = np.zeros(len(vocabulary), bool)
    for completion in combinations_with_replacement(range(len(vocabulary)), empty):
        numbers = vocabulary.atomic_numbers[[*filled, *completion]]
        if is_valid(numbers, RULE):
            allowed[list(completion)] = True
    return allowed if allowed.any() else ~allowed


@st.composite
def partly_filled_cells(draw: st.DrawFn) -> tuple[Vocabulary, tuple[int, ...], int, int]:
    symbols = draw(st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=4, unique=True))
    n_sites = draw(st.integers(1, 6))
    choices = range(len(symbols))
    # Half of the cells have no non-metal yet: the mask must still leave room for one.
    if draw(st.booleans()):
        choices = [i for i in choices if symbols[i] in METALS]
    filled = draw(st.lists(st.sampled_from(choices), max_size=n_sites - 1)) if choices else []
    # Cells with fewer sites than the largest one of a collection are padded.
    padding = draw(st.integers(0, 2))
    return Vocabulary(tuple(symbols)), tuple(filled), n_sites, padding


@pytest.mark.parametrize("method", [MaskTable, MaskSearch])
@settings(max_examples=150, deadline=None)
@given(partly_filled_cells())
def test_mask_is_exact(
    method: type[MaskTable | MaskSearch], case: tuple[Vocabulary, tuple[int, ...], int, int]
) -> None:
    vocabulary, filled, n_sites, padding = case
    codes = np.zeros((1, n_sites + padding), np.int32)
    codes[0, n_sites:] = -1
    codes[0, : len(filled)] = np.array(filled, int) + 1
    allowed = method(ions_of(vocabulary), len(vocabulary), n_sites)(codes)
    np.testing.assert_array_equal(allowed[0], brute_force_mask(vocabulary, filled, n_sites))


@pytest.mark.parametrize("method", [MaskTable, MaskSearch])
def test_the_last_empty_site_is_left_to_a_nonmetal(method: type[MaskTable | MaskSearch]) -> None:
    vocabulary = Vocabulary(("Fe", "Co", "O", "H"))
    mask = method(ions_of(vocabulary), 4, 2)
    empty, iron, oxygen = [0, 0], [1, 0], [3, 0]
    allowed = mask(np.array([empty, iron, oxygen], np.int32))
    assert allowed.tolist() == [
        [True, True, True, True],
        [False, False, True, True],  # FeCo is neutral
        [True, True, False, True],
    ]
    alloy = Vocabulary(("Fe", "Co"))
    assert method(ions_of(alloy), 2, 2)(np.array([iron], np.int32)).all()  # nothing is valid


def test_table_and_search_agree_on_perovskites() -> None:
    vocabulary = crystal_gym.load_collection("goldschmidt").vocabulary
    vocabulary = Vocabulary(vocabulary.symbols[:30])
    ions = ions_of(vocabulary)
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 31, (200, 5)).astype(np.int32)
    codes[np.arange(5) >= rng.integers(0, 5, 200)[:, None]] = 0
    codes = rng.permuted(codes, axis=1)
    np.testing.assert_array_equal(MaskTable(ions, 30, 5)(codes), MaskSearch(ions, 30, 5)(codes))


def test_oxidation_states_are_nonzero_and_at_most_the_largest_charge() -> None:
    states = [
        state
        for number in range(1, len(SYMBOLS) + 1)
        for state in ion(number, RULES[RULE].oxidation_states)[1]
    ]
    assert states
    assert all(0 < abs(state) <= LARGEST_CHARGE for state in states)


def fill_randomly(
    table: EpisodeTable, crystals: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Fill crystals with random allowed elements, and return the atomic numbers."""
    state = start(table, crystals, table.breadth_first(crystals, 0))
    for _ in range(table.max_sites):
        allowed = charge_neutral(table, state)
        assert allowed.any(1).all()
        fill(state, (rng.random(allowed.shape) * allowed).argmax(1))
    return table.vocabulary.decode(state.elements)


@pytest.mark.real
def test_masked_fillings_of_perov5_are_valid(perov5: CrystalCollection) -> None:
    table = EpisodeTable(perov5)
    numbers = fill_randomly(table, np.arange(len(perov5)), np.random.default_rng(0))
    assert is_valid(numbers, "strict").all()
    assert len(np.unique(numbers, axis=0)) > 0.95 * len(perov5)


@pytest.mark.real
def test_true_elements_are_allowed_in_valid_crystals(
    perov5: CrystalCollection,
) -> None:
    table = EpisodeTable(perov5)
    rows = np.flatnonzero(is_valid(perov5.atomic_numbers, "strict"))
    assert len(rows) > 0.95 * len(perov5)
    state = start(table, rows, table.breadth_first(rows, 0))
    for _ in range(5):
        true = table.true_elements[rows, state.focus] - 1
        assert charge_neutral(table, state)[np.arange(len(rows)), true].all()
        fill(state, true)


def test_masked_fillings_of_different_cell_sizes_are_valid_if_possible(
    toy: CrystalCollection,
) -> None:
    table = EpisodeTable(toy, Vocabulary(("Na", "Mg", "Ti", "O", "F")), max_sites=20)
    numbers = fill_randomly(table, np.arange(len(toy)), np.random.default_rng(1))
    # A single atom has no counterion.
    np.testing.assert_array_equal(is_valid(numbers, "strict"), table.n_sites > 1)


def test_masked_fillings_of_twenty_sites_are_valid() -> None:
    vocabulary = Vocabulary(
        tuple(SYMBOLS[i] for i in range(2, 60) if SYMBOLS[i] not in {"Ne", "Ar"})
    )
    search = MaskSearch(ions_of(vocabulary), len(vocabulary), 20)
    rng = np.random.default_rng(0)
    codes = np.zeros((4, 20), np.int32)
    is_metal = np.isin(vocabulary.symbols, metals)
    # The last two crystals receive metals as long as the mask allows them.
    prefers_metals = np.array([0, 0, 1, 1])[:, None]
    for site in rng.permutation(20):
        allowed = search(codes)
        preference = rng.random(allowed.shape) + prefers_metals * is_metal
        codes[:, site] = (preference * allowed).argmax(1) + 1
    assert len(vocabulary) == 56
    assert (is_metal[codes - 1].sum(1) > 10)[2:].all()
    assert is_valid(vocabulary.decode(codes), "strict").all()


def test_everything_is_allowed_in_full_cells_and_where_nothing_is_valid() -> None:
    vocabulary = Vocabulary(("He", "Sr", "Ti", "O"))
    for method in (MaskTable, MaskSearch):
        mask = method(ions_of(vocabulary), 4, 5)
        hopeless, full, regular = [1, 0, 0, 0, 0], [2, 3, 4, 4, 4], [2, 0, 0, 0, 0]
        allowed = mask(np.array([hopeless, full, regular], np.int32))
        np.testing.assert_array_equal(allowed, [[True] * 4, [True] * 4, [False, True, True, True]])


def test_single_and_vector_environment_have_the_same_mask() -> None:
    single = gym.make("CrystalSkeleton-v0", mask="charge-neutral", split="val")
    vector = gym.make_vec("CrystalSkeleton-v0", num_envs=1, mask="charge-neutral", split="val")
    _, info = single.reset(seed=3)
    _, infos = vector.reset(seed=3)
    restricted = 0
    for _ in range(5):
        np.testing.assert_array_equal(info["action_mask"], infos["action_mask"][0])
        np.testing.assert_array_equal(single.unwrapped.action_masks(), info["action_mask"] == 1)  # type: ignore[attr-defined] - not in gym.Env
        restricted += int((info["action_mask"] == 0).any())
        action = int(np.flatnonzero(info["action_mask"])[-1])
        _, _, _, _, info = single.step(action)
        _, _, _, _, infos = vector.step(np.array([action]))
    assert restricted


def test_unknown_mask_is_rejected() -> None:
    with pytest.raises(UnknownNameError, match="charge-neutral"):
        resolve_mask("neutral")


@given(st.integers(1, 5), st.integers(1, 4))
def test_ranks_of_multisets(n_items: int, size: int) -> None:
    rows = all_multisets(n_items, size)
    ranks = rank_table(n_items, size)
    assert len(rows) == n_multisets(n_items, size)
    assert sorted(map(tuple, rows.tolist())) == list(
        combinations_with_replacement(range(n_items), size)
    )
    rank = sum(ranks[i][rows[:, i]] for i in range(size))
    np.testing.assert_array_equal(rank, np.arange(len(rows)))
    smaller = all_multisets(n_items, size - 1)
    for row, remainders in zip(rows, ranks_without_one(rows, ranks), strict=True):
        for i in range(size):
            np.testing.assert_array_equal(smaller[remainders[i]], np.delete(row, i))
