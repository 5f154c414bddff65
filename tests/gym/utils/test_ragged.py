"""Test arrays with a different number of rows for each crystal."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crystal_gym.utils import ragged


@st.composite
def groups(draw):
    """Draw rows of some crystals, as a list with one array for each crystal."""
    counts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=6))
    values = np.arange(1, 3 * sum(counts) + 1).reshape(-1, 3)
    return np.split(values, np.cumsum(counts)[:-1])


@given(groups(), st.integers(0, 2))
def test_padding_keeps_the_rows_of_each_crystal(arrays, extra):
    counts = np.array([len(array) for array in arrays], np.int32)
    width = int(counts.max()) + extra
    padded = ragged.pad(np.concatenate(arrays), counts, width, -1)
    assert padded.shape == (len(arrays), width, 3)
    for row, array in enumerate(arrays):
        assert np.array_equal(padded[row, : counts[row]], array)
        assert (padded[row, counts[row] :] == -1).all()


@given(groups(), st.data())
def test_taking_crystals_joins_their_rows(arrays, data):
    counts = np.array([len(array) for array in arrays], np.int32)
    crystals = data.draw(st.lists(st.integers(0, len(arrays) - 1), max_size=8))
    taken = ragged.take(np.concatenate(arrays), counts, np.array(crystals, int))
    expected = [row for crystal in crystals for row in arrays[crystal].tolist()]
    assert taken.tolist() == expected
    assert ragged.starts(counts).tolist() == [sum(counts[:i]) for i in range(len(arrays))]
