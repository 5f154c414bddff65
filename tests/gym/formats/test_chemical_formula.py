"""Chemical formulas of CIFs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_gym.errors import BadCrystalError
from crystal_gym.formats.chemical_formula import parse_formula


@given(
    st.dictionaries(st.sampled_from(["H", "C", "Sr", "Ti", "O"]), st.integers(1, 99), min_size=1)
)
def test_formula_is_read_with_and_without_spaces(counts: dict[str, int]):
    parts = [f"{element}{'' if count == 1 else count}" for element, count in counts.items()]
    for text in (" ".join(parts), ", ".join(parts), "".join(parts)):
        assert parse_formula(text).counts == counts
    doubled = {element: 2 * count for element, count in counts.items()}
    assert parse_formula(" ".join(parts)).units(doubled) == 2
    assert parse_formula(" ".join(parts)).units({**doubled, "N": 1}) is None
    first = next(iter(counts))
    if len(counts) > 1:
        assert parse_formula(" ".join(parts)).units({**counts, first: counts[first] + 1}) is None


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("Ca (C O3)", {"Ca": 1, "C": 1, "O": 3}),
        ("(N H4)2 S O4", {"N": 2, "H": 8, "S": 1, "O": 4}),
        ("D2 O", {"O": 1, "H": 2}),
        ("NA CL", {"Na": 1, "Cl": 1}),
        ("CO", {"C": 1, "O": 1}),
        ("Fe0.98 O1", {"Fe": 0.98, "O": 1}),
        ("C6 H5 O 1-", {"C": 6, "H": 5, "O": 1}),
    ],
)
def test_formulas(text: str, counts: dict[str, float]):
    assert parse_formula(text).counts == counts


@pytest.mark.parametrize(
    "text", ["x(H2O)", "Cu2 O 1.5(H2 O)", "Xx2", "?", "1", "Al.", "C6 H5,2(H2O)"]
)
def test_unreadable_formulas_are_refused(text: str):
    with pytest.raises(BadCrystalError, match="a chemical formula"):
        parse_formula(text)
