"""The mask ``charge-neutral`` with common oxidation states."""

from itertools import combinations_with_replacement, product

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Element

from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.crystals.validity import COMMON_STATES, is_metal
from crystal_gym.episode import EpisodeTable, fill, start
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.masks import resolve_mask
from crystal_gym.masks.charge_neutral import MaskSearch, MaskTable, charge_neutral
from crystal_gym.masks.look_ahead import ions_of

COMMON = {"charge-neutral": {"states": "common"}}
ELEMENTS = ("N", "O", "F", "S", "Te", "Li", "Ti", "Fe", "Sr", "Sb", "Au")


def is_neutral(numbers: list[int]) -> bool:
    """Return whether one common state per element gives a neutral crystal with a non-metal."""
    if all(map(is_metal, numbers)):
        return False
    elements = sorted(set(numbers), key=lambda number: Element.from_Z(number).X)
    for states in product(*(Element.from_Z(z).common_oxidation_states for z in elements)):
        signs = [state > 0 for state in states]
        total = sum(state * numbers.count(z) for z, state in zip(elements, states, strict=True))
        # Cations come before anions in the order of electronegativity.
        if total == 0 and signs == sorted(signs, reverse=True):
            return True
    return False


@pytest.mark.parametrize("method", [MaskTable, MaskSearch])
@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(ELEMENTS), min_size=2, max_size=4, unique=True),
    st.lists(st.integers(0, 3), max_size=3),
    st.integers(4, 5),
)
def test_mask_equals_the_enumeration_of_all_completions(method, symbols, filled, n_sites):
    vocabulary = Vocabulary(tuple(symbols))
    filled = [code % len(symbols) for code in filled]
    expected = np.zeros(len(symbols), bool)
    for completion in combinations_with_replacement(range(len(symbols)), n_sites - len(filled)):
        if is_neutral(vocabulary.atomic_numbers[[*filled, *completion]].tolist()):
            expected[list(completion)] = True
    codes = np.zeros((1, n_sites), np.int32)
    codes[0, : len(filled)] = np.array(filled, int) + 1
    allowed = method(ions_of(vocabulary, COMMON_STATES), len(symbols), n_sites)(codes)
    assert allowed[0].tolist() == (expected if expected.any() else ~expected).tolist()


@pytest.mark.real
def test_a_third_of_perov5_is_neutral_with_all_targets_among_them(whole_perov5):
    collection = whole_perov5
    table = EpisodeTable(collection)
    rows = np.arange(len(collection))
    state = start(table, rows, table.breadth_first(rows, 0))
    neutral = np.ones(len(rows), bool)
    for _ in range(5):
        true = table.true_elements[rows, state.focus] - 1
        neutral &= charge_neutral(table, state, "common")[rows, true]
        fill(state, true)
    assert neutral.sum() == 5750  # 30.4 % of 18,928
    labels = collection.labels
    heat, original = labels["heat_all_corrected"], labels["heat_all"]
    splitter = np.zeros(len(rows), bool)
    shield = np.zeros(len(rows), bool)
    for kind in ("dir", "ind"):
        valence, conduction = labels[f"vb_{kind}"], labels[f"cb_{kind}"]
        gap = labels[f"{kind}_gap"]
        splitter |= (
            (original <= 0.2) & (gap >= 1.5) & (gap <= 3) & (valence >= 5.73) & (conduction <= 4.5)
        )
        shield |= (heat <= 0.2) & (labels["dir_gap"] >= 3) & (valence >= 6.2) & (valence <= 7)
    assert splitter.sum() == (splitter & neutral).sum() == 20
    assert shield.sum() == (shield & neutral).sum() == 8


def test_environments_accept_the_parameter_and_the_name():
    masks = []
    for mask in (COMMON, "charge-neutral-common"):
        env = gym.make("CrystalSkeleton-v0", mask=mask, split="val")
        _, info = env.reset(seed=0)
        steps = []
        for _ in range(5):
            steps.append(info["action_mask"].copy())
            info = env.step(int(info["action_mask"].argmax()))[4]
        masks.append(steps)
    np.testing.assert_array_equal(*masks)
    assert not np.min(masks[0])


def test_invalid_parameters_are_rejected():
    with pytest.raises(UnknownNameError, match="Did you mean 'states'"):
        resolve_mask({"charge-neutral": {"state": "common"}})
    with pytest.raises(UnknownNameError, match="Did you mean 'charge-neutral'"):
        resolve_mask({"charge-neutrl": {}})
    for entry in ({}, {"charge-neutral": "common"}, {**COMMON, "none": {}}):
        with pytest.raises(CrystalGymError, match="a mapping of one name to a mapping"):
            resolve_mask(entry)
    with pytest.raises(UnknownNameError, match="oxidation states 'all'"):
        gym.make("CrystalSkeleton-v0", mask={"charge-neutral": {"states": "all"}}).reset(seed=0)
