"""The vocabulary: its laws, and what it refuses."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_gym.crystals.elements import SYMBOLS, Vocabulary, atomic_number
from crystal_gym.errors import CrystalGymError, UnknownNameError

vocabularies = st.lists(st.sampled_from(SYMBOLS), min_size=1, unique=True).map(
    lambda symbols: Vocabulary(tuple(symbols))
)


def test_symbols_are_those_of_the_periodic_table():
    from pymatgen.core import Element

    assert len(SYMBOLS) == 118
    assert [Element.from_Z(number).symbol for number in range(1, 119)] == list(SYMBOLS)


@given(st.integers(1, 118))
def test_a_symbol_and_its_number_name_the_same_element(number):
    assert atomic_number(SYMBOLS[number - 1]) == atomic_number(number) == number


@given(vocabularies, st.data())
def test_decoding_what_was_encoded_gives_the_elements_back(vocabulary, data):
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
def test_empty_sites_and_padding_carry_no_element(vocabulary):
    assert vocabulary.encode([0]).tolist() == [0]
    assert vocabulary.decode(np.array([[0, -1], [1, 0]])).tolist() == [
        [0, 0],
        [vocabulary.atomic_numbers[0], 0],
    ]


@given(st.lists(st.sampled_from(SYMBOLS), min_size=1))
def test_from_elements_orders_by_atomic_number_and_drops_repeats(symbols):
    vocabulary = Vocabulary.from_elements(symbols)
    assert vocabulary == Vocabulary.from_elements([atomic_number(s) for s in reversed(symbols)])
    assert set(vocabulary.symbols) == set(symbols)
    assert (np.diff(vocabulary.atomic_numbers) > 0).all()
    assert all(symbol in vocabulary for symbol in symbols)
    assert all(atomic_number(symbol) in vocabulary for symbol in symbols)


def test_what_is_not_in_the_vocabulary_is_said_so():
    vocabulary = Vocabulary(("O", "Ti"))
    assert "Sr" not in vocabulary
    assert 38 not in vocabulary
    with pytest.raises(CrystalGymError, match=r"Element Sr is not in the vocabulary .*\(O Ti\)"):
        vocabulary.encode(["Ti", "Sr"])
    with pytest.raises(CrystalGymError, match="Element Sr"):
        vocabulary.encode(np.array([[22, 38]]))


@pytest.mark.parametrize("element", ["ti", "Xx", "", 0, 119, -1, 8.5, None])
def test_no_such_element(element):
    with pytest.raises(CrystalGymError):
        atomic_number(element)


@pytest.mark.parametrize("symbols", [(), ("O", "O"), ("Q",), (8,)])
def test_a_vocabulary_needs_distinct_symbols(symbols):
    with pytest.raises(CrystalGymError):
        Vocabulary(symbols)


def test_a_vocabulary_made_of_a_list_is_the_same():
    vocabulary = Vocabulary(["O", "Ti"])
    assert vocabulary == Vocabulary(("O", "Ti"))
    assert hash(vocabulary) == hash(Vocabulary(("O", "Ti")))


@pytest.mark.parametrize("numbers", [[119], [-1], [1000]])
def test_encoding_a_number_that_is_no_element_fails(numbers):
    with pytest.raises(CrystalGymError, match="is no atomic number"):
        Vocabulary(("O",)).encode(numbers)


def test_encoding_takes_no_fractions_and_nothing_at_all():
    vocabulary = Vocabulary(("O",))
    with pytest.raises(CrystalGymError, match="whole numbers"):
        vocabulary.encode([8.5])
    assert vocabulary.encode([]).shape == (0,)


@pytest.mark.parametrize("codes", [[3], [-2]])
def test_decoding_a_code_out_of_range_fails(codes):
    with pytest.raises(CrystalGymError, match="from -1 to 2"):
        Vocabulary(("O", "Ti")).decode(np.array(codes))


def test_errors_survive_the_way_back_from_a_worker_process():
    error = UnknownNameError("split", "tran", ("train", "val", "test"))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is UnknownNameError
    assert str(again) == str(error)
    assert "Did you mean 'train'?" in str(again)
