"""Test names in dataset ids and the comparison of fingerprints."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_gym.errors import CollectionMismatchError
from crystal_gym.utils.identity import require_same_crystals, safe_name

NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12
)


@given(NAMES, NAMES)
def test_names_are_safe_and_stay_distinct(first, second):
    safe = safe_name(first, "crystals")
    assert re.fullmatch(r"[-a-zA-Z0-9_]+", safe)
    assert safe == safe_name(first, "crystals")
    if unicodedata.normalize("NFC", first) != unicodedata.normalize("NFC", second):
        assert safe != safe_name(second, "crystals")


@pytest.mark.parametrize("name", ["perov-5", "a_b", "X1", "data-2", "x" * 80])
def test_valid_names_are_kept(name):
    assert safe_name(name, "crystals") == name


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("data", "data-"),
        ("DATA", "DATA-"),
        ("con", "con-"),
        ("a b", "a-b-"),
        ("钙钛矿", "crystals-"),
        ("x" * 255, "x" * 80 + "-"),
    ],
)
def test_changed_and_reserved_names_get_a_suffix(name, start):
    safe = safe_name(name, "crystals")
    assert safe.startswith(start)
    assert re.fullmatch("[0-9a-f]{8}", safe.removeprefix(start))


def test_names_of_one_kind_stay_distinct():
    names = ["a b", "a-b", "a.b", "钙钛矿", "пер", "x" * 200, "x" * 201, "e\u0301", "e"]
    assert len({safe_name(name, "crystals") for name in names}) == len(names)
    # File systems differ in the form of accented letters.
    assert safe_name("e\u0301", "crystals") == safe_name("\u00e9", "crystals")


def test_mismatch_names_both_origins():
    require_same_crystals("the dataset x", ("a.csv", "12"), ("b.csv", "12"), "Rename one.")
    with pytest.raises(CollectionMismatchError) as caught:
        require_same_crystals("the dataset x", ("a.csv", "1" * 64), ("b.csv", "2" * 64), "Rename.")
    assert str(caught.value) == (
        "Expected the dataset x to belong to the crystals of b.csv (SHA-256 222222222222), got one "
        "that belongs to the crystals of a.csv (SHA-256 111111111111). Rename."
    )
    with pytest.raises(CollectionMismatchError, match=r"without a path \(no recorded SHA-256\)"):
        require_same_crystals("the dataset x", (None, None), ("b.csv", "2"), "Rename.")
