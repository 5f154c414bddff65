"""The mask ``charge-neutral``: exactly the elements from which a neutral finish is in reach."""

from itertools import combinations_with_replacement

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import crystal_gym
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.elements import SYMBOLS, Vocabulary
from crystal_gym.crystals.validity import RULES, ion, is_valid
from crystal_gym.episode import EpisodeTable, fill, start
from crystal_gym.errors import UnknownNameError
from crystal_gym.masks import resolve_mask
from crystal_gym.masks.charge_neutral import MaskSearch, MaskTable, charge_neutral
from crystal_gym.masks.look_ahead import LARGEST_CHARGE, RULE, ions_of
from crystal_gym.masks.multisets import all_multisets, n_multisets, place_table, without_one

# He has no electronegativity, and so is never part of a neutral composition.
ELEMENTS = ("H", "He", "Li", "N", "O", "F", "S", "Cl", "Ti", "Fe", "Sr", "Au", "Te")


def by_brute_force(vocabulary: Vocabulary, filled: tuple[int, ...], n_sites: int) -> np.ndarray:
    """Allowed elements by trying every finish; all, where there is none."""
    empty = n_sites - len(filled)
    allowed = np.zeros(len(vocabulary), bool)
    for finish in combinations_with_replacement(range(len(vocabulary)), empty):
        numbers = vocabulary.atomic_numbers[[*filled, *finish]]
        if is_valid(numbers, RULE):
            allowed[list(finish)] = True
    return allowed if allowed.any() else ~allowed


@st.composite
def partly_filled(draw: st.DrawFn) -> tuple[Vocabulary, tuple[int, ...], int, int]:
    symbols = draw(st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=4, unique=True))
    n_sites = draw(st.integers(1, 6))
    filled = draw(st.lists(st.integers(0, len(symbols) - 1), max_size=n_sites - 1))
    # Cells of fewer sites than the collection's largest are padded.
    padding = draw(st.integers(0, 2))
    return Vocabulary(tuple(symbols)), tuple(filled), n_sites, padding


@pytest.mark.parametrize("answers", [MaskTable, MaskSearch])
@settings(max_examples=150, deadline=None)
@given(partly_filled())
def test_the_mask_is_exact(
    answers: type[MaskTable | MaskSearch], case: tuple[Vocabulary, tuple[int, ...], int, int]
) -> None:
    vocabulary, filled, n_sites, padding = case
    codes = np.zeros((1, n_sites + padding), np.int32)
    codes[0, n_sites:] = -1
    codes[0, : len(filled)] = np.array(filled, int) + 1
    found = answers(ions_of(vocabulary), len(vocabulary), n_sites)(codes)
    np.testing.assert_array_equal(found[0], by_brute_force(vocabulary, filled, n_sites))


def test_table_and_search_agree_on_perovskites() -> None:
    vocabulary = crystal_gym.load_collection("goldschmidt").vocabulary
    vocabulary = Vocabulary(vocabulary.symbols[:30])
    ions = ions_of(vocabulary)
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 31, (200, 5)).astype(np.int32)
    codes[np.arange(5) >= rng.integers(0, 5, 200)[:, None]] = 0
    codes = rng.permuted(codes, axis=1)
    np.testing.assert_array_equal(MaskTable(ions, 30, 5)(codes), MaskSearch(ions, 30, 5)(codes))


def test_no_oxidation_state_is_zero_or_beyond_what_is_counted_with() -> None:
    states = [
        state
        for number in range(1, len(SYMBOLS) + 1)
        for state in ion(number, RULES[RULE].oxidation_states)[1]
    ]
    assert states
    assert all(0 < abs(state) <= LARGEST_CHARGE for state in states)


def walk(table: EpisodeTable, crystals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Atomic numbers after filling with anything that the mask allows."""
    state = start(table, crystals, table.traversals[crystals, 0])
    for _ in range(table.max_sites):
        allowed = charge_neutral(table, state)
        assert allowed.any(1).all()
        fill(state, (rng.random(allowed.shape) * allowed).argmax(1))
    return table.vocabulary.decode(state.elements)


@pytest.mark.real
def test_who_keeps_to_the_mask_ends_valid_on_perov5(perov5: CrystalCollection) -> None:
    table = EpisodeTable(perov5)
    numbers = walk(table, np.arange(len(perov5)), np.random.default_rng(0))
    assert is_valid(numbers, "strict").all()
    assert len(np.unique(numbers, axis=0)) > 0.95 * len(perov5)


@pytest.mark.real
def test_the_true_elements_are_allowed_where_the_crystal_is_valid(
    perov5: CrystalCollection,
) -> None:
    table = EpisodeTable(perov5)
    rows = np.flatnonzero(is_valid(perov5.atomic_numbers, "strict"))
    assert len(rows) > 0.95 * len(perov5)
    state = start(table, rows, table.traversals[rows, 0])
    for _ in range(5):
        true = table.true_elements[rows, state.focus] - 1
        assert charge_neutral(table, state)[np.arange(len(rows)), true].all()
        fill(state, true)


def test_cells_of_many_sizes_end_valid_where_they_can(toy: CrystalCollection) -> None:
    table = EpisodeTable(toy, Vocabulary(("Na", "Mg", "Ti", "O", "F")), max_sites=20)
    numbers = walk(table, np.arange(len(toy)), np.random.default_rng(1))
    # One atom alone has no counter-ion.
    np.testing.assert_array_equal(is_valid(numbers, "strict"), table.n_sites > 1)


def test_twenty_sites_of_56_elements_end_valid() -> None:
    vocabulary = Vocabulary(
        tuple(SYMBOLS[i] for i in range(2, 60) if SYMBOLS[i] not in {"Ne", "Ar"})
    )
    answers = MaskSearch(ions_of(vocabulary), len(vocabulary), 20)
    rng = np.random.default_rng(0)
    codes = np.zeros((4, 20), np.int32)
    for site in rng.permutation(20):
        allowed = answers(codes)
        codes[:, site] = (rng.random(allowed.shape) * allowed).argmax(1) + 1
    assert len(vocabulary) == 56
    assert is_valid(vocabulary.decode(codes), "strict").all()


def test_a_lost_crystal_and_a_full_one_allow_everything() -> None:
    vocabulary = Vocabulary(("He", "Sr", "Ti", "O"))
    for answers in (MaskTable, MaskSearch):
        ask = answers(ions_of(vocabulary), 4, 5)
        lost, full, fine = [1, 0, 0, 0, 0], [2, 3, 4, 4, 4], [2, 0, 0, 0, 0]
        allowed = ask(np.array([lost, full, fine], np.int32))
        np.testing.assert_array_equal(allowed, [[True] * 4, [True] * 4, [False, True, True, True]])


def test_environments_give_the_same_mask() -> None:
    single = gym.make("CrystalSkeleton-v0", mask="charge-neutral", split="val")
    vector = gym.make_vec("CrystalSkeleton-v0", num_envs=1, mask="charge-neutral", split="val")
    _, info = single.reset(seed=3)
    _, infos = vector.reset(seed=3)
    restricted = 0
    for _ in range(5):
        np.testing.assert_array_equal(info["action_mask"], infos["action_mask"][0])
        np.testing.assert_array_equal(single.unwrapped.action_masks(), info["action_mask"] == 1)  # type: ignore[attr-defined] - its own method
        restricted += int((info["action_mask"] == 0).any())
        action = int(np.flatnonzero(info["action_mask"])[-1])
        _, _, _, _, info = single.step(action)
        _, _, _, _, infos = vector.step(np.array([action]))
    assert restricted


def test_an_unknown_mask_is_told() -> None:
    with pytest.raises(UnknownNameError, match="charge-neutral"):
        resolve_mask("neutral")


@given(st.integers(1, 5), st.integers(1, 4))
def test_places_of_multisets(n_things: int, size: int) -> None:
    rows = all_multisets(n_things, size)
    places = place_table(n_things, size)
    assert len(rows) == n_multisets(n_things, size)
    assert sorted(map(tuple, rows.tolist())) == list(
        combinations_with_replacement(range(n_things), size)
    )
    here = sum(places[i][rows[:, i]] for i in range(size))
    np.testing.assert_array_equal(here, np.arange(len(rows)))
    smaller = all_multisets(n_things, size - 1)
    for row, left in zip(rows, without_one(rows, places), strict=True):
        for i in range(size):
            np.testing.assert_array_equal(smaller[left[i]], np.delete(row, i))
