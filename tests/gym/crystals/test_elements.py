"""Test elements and the vocabulary."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_gym.crystals.elements import SYMBOLS, Vocabulary, atomic_number
from crystal_gym.errors import CrystalGymError

vocabularies = st.lists(st.sampled_from(SYMBOLS), min_size=1, unique=True).map(
    lambda symbols: Vocabulary(tuple(symbols))
)


def test_symbols_are_those_of_the_periodic_table():
    from pymatgen.core import Element

    assert len(SYMBOLS) == 118
    assert [Element.from_Z(number).symbol for number in range(1, 119)] == list(SYMBOLS)


@given(st.integers(1, 118))
def test_symbol_and_number_give_the_same_atomic_number(number):
    assert atomic_number(SYMBOLS[number - 1]) == atomic_number(number) == number


@given(vocabularies, st.data())
def test_decode_inverts_encode(vocabulary, data):
    indices = data.draw(st.lists(st.integers(0, len(vocabulary) - 1)))
    symbols = [vocabulary.symbols[index] for index in indices]
    numbers = np.array([atomic_number(symbol) for symbol in symbols], int)
    codes = vocabulary.encode(numbers)
    assert codes.dtype == np.int32
    assert codes.tolist() == [index + 1 for index in indices]
    assert vocabulary.decode(codes).tolist() == numbers.tolist()
    if symbols:
        assert vocabulary.encode(symbols).tolist() == codes.tolist()


@given(vocabularies)
def test_empty_sites_and_padding_have_the_atomic_number_zero(vocabulary):
    assert vocabulary.encode([0]).tolist() == [0]
    assert vocabulary.decode(np.array([[0, -1], [1, 0]])).tolist() == [
        [0, 0],
        [vocabulary.atomic_numbers[0], 0],
    ]


@given(st.lists(st.sampled_from(SYMBOLS), min_size=1))
def test_from_elements_sorts_by_atomic_number_without_duplicates(symbols):
    vocabulary = Vocabulary.from_elements(symbols)
    assert vocabulary == Vocabulary.from_elements([atomic_number(s) for s in reversed(symbols)])
    assert set(vocabulary.symbols) == set(symbols)
    assert (np.diff(vocabulary.atomic_numbers) > 0).all()
    assert all(symbol in vocabulary for symbol in symbols)
    assert all(atomic_number(symbol) in vocabulary for symbol in symbols)


def test_encode_rejects_elements_outside_the_vocabulary():
    vocabulary = Vocabulary(("O", "Ti"))
    assert "Sr" not in vocabulary
    assert 38 not in vocabulary
    with pytest.raises(CrystalGymError, match=r"Element Sr is not in the vocabulary .*\(O Ti\)"):
        vocabulary.encode(["Ti", "Sr"])
    with pytest.raises(CrystalGymError, match="Element Sr"):
        vocabulary.encode(np.array([[22, 38]]))


@pytest.mark.parametrize("element", ["ti", "Xx", "", 0, 119, -1, 8.5, None])
def test_atomic_number_rejects_unknown_elements(element):
    with pytest.raises(CrystalGymError):
        atomic_number(element)


@pytest.mark.parametrize("symbols", [(), ("O", "O"), ("Q",), (8,)])
def test_vocabulary_requires_distinct_symbols(symbols):
    with pytest.raises(CrystalGymError):
        Vocabulary(symbols)


def test_vocabulary_of_a_list_equals_that_of_a_tuple():
    vocabulary = Vocabulary(["O", "Ti"])
    assert vocabulary == Vocabulary(("O", "Ti"))
    assert hash(vocabulary) == hash(Vocabulary(("O", "Ti")))


@pytest.mark.parametrize("numbers", [[119], [-1], [1000]])
def test_encode_rejects_numbers_out_of_range(numbers):
    with pytest.raises(CrystalGymError, match="atomic numbers from 1 to 118"):
        Vocabulary(("O",)).encode(numbers)


def test_encode_rejects_fractions_and_accepts_an_empty_list():
    vocabulary = Vocabulary(("O",))
    with pytest.raises(CrystalGymError, match="symbols or integers"):
        vocabulary.encode([8.5])
    assert vocabulary.encode([]).shape == (0,)


@pytest.mark.parametrize("codes", [[3], [-2]])
def test_decode_rejects_codes_out_of_range(codes):
    with pytest.raises(CrystalGymError, match="from -1 to 2"):
        Vocabulary(("O", "Ti")).decode(np.array(codes))
