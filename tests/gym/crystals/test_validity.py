"""Test validity against SMACT and against known shares of valid crystals in Perov-5."""

from importlib.metadata import version

import numpy as np
import pytest
import smact
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition
from smact.screening import smact_validity

from crystal_gym.crystals.elements import SYMBOLS, Vocabulary
from crystal_gym.crystals.validity import RULES, is_metal, is_valid, rule_description
from crystal_gym.errors import UnknownNameError


def numbers(text):
    return [SYMBOLS.index(symbol) + 1 for symbol in text.split()]


def numbers_of(formula):
    counts = Composition(formula).items()
    return np.array([element.number for element, count in counts for _ in range(int(count))])


@pytest.mark.parametrize(
    ("formulas", "smact14", "strict"),
    [
        ("NaCl SrTiO3 LiFePO4 TiO2 SrO2", True, True),
        # SMACT has oxidation states of both signs for C, Si and As.
        ("SiC GaAs GeTe Fe3C SiGe", True, True),
        ("Na2Cl Na3Cl", False, False),
        # Single elements.
        ("O2 Si2 Fe Cu", True, False),
        # Alloys, of which SMACT's `include_alloys=False` accepts those with a negative Fe, Co, Ni,
        # Au, ...
        ("FeCo NiAl TiNi NaK CrFe CuAu Cu3Au CuZn Cu5Zn8", True, False),
        # Compounds of metals alone by SMACT's list, which contains Ge, Sb, Sn, Bi and Po.
        ("CsAu InSb GaSb GeSb Mg2Sn Na3Bi PbPo", True, False),
    ],
)
def test_validity_of_known_compositions(formulas, smact14, strict):
    for formula in formulas.split():
        assert is_valid(numbers_of(formula)) == smact14, formula
        assert is_valid(numbers_of(formula), "strict") == strict, formula


def test_validity_ignores_padding_and_order_and_keeps_the_shape():
    rows = np.array([[38, 22, 8, 8, 8, 0], [8, 8, 0, 22, 8, 38], [11, 11, 17, 0, 0, 0]])
    assert is_valid(rows).tolist() == [True, True, False]
    assert is_valid(rows[:, None]).shape == (3, 1)
    assert is_valid(rows[0]).shape == ()
    assert is_valid(rows[:0]).shape == (0,)


def test_empty_crystals_and_elements_without_data_are_invalid():
    assert not is_valid(np.array([0, 0]))
    assert not is_valid(np.array(numbers("Og F F")))


def test_unknown_rule_raises_an_error():
    with pytest.raises(UnknownNameError, match="Unknown validity rule 'smact13'"):
        is_valid(np.array([8]), "smact13")


def test_unhashable_rule_raises_an_error():
    with pytest.raises(UnknownNameError, match=r"Unknown validity rule \['strict'\]"):
        rule_description(["strict"])  # type: ignore[arg-type] - not a string


def test_descriptions_name_the_rule_the_version_and_the_oxidation_states():
    for rule, definition in RULES.items():
        description = rule_description(rule)
        assert description.startswith(f"{rule} (SMACT {version('smact')}, ")
        assert f"oxidation states {definition.oxidation_states};" in description
    assert "(SMACT 3.9.9, " in rule_description("strict", "3.9.9")
    assert "metals alone are invalid" in rule_description("strict")
    assert "metals alone are valid" in rule_description("smact14")


def test_metals_are_those_of_smact():
    metals = {symbol for symbol, i in zip(SYMBOLS, range(1, 119), strict=True) if is_metal(i)}
    assert metals == set(smact.metals)
    assert {"Ge", "Sb", "Po"} < metals
    assert metals.isdisjoint({"H", "B", "Si", "As", "Te", "C"})


METALS = numbers(" ".join(smact.metals))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(METALS), min_size=1, max_size=20))
def test_compositions_of_metals_alone_are_invalid_under_strict(row):
    assert not is_valid(np.array(row), "strict")
    assert is_valid(np.array(row), "smact14")


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from(range(1, 104)), min_size=1, max_size=3, unique=True),
    st.sampled_from([n for n in range(1, 104) if n not in METALS]),
    st.lists(st.integers(1, 4), min_size=4, max_size=4),
)
def test_with_a_nonmetal_strict_equals_smact_without_alloys(others, nonmetal, counts):
    elements = list(dict.fromkeys([nonmetal, *others]))
    formula = "".join(f"{SYMBOLS[n - 1]}{c}" for n, c in zip(elements, counts, strict=False))
    try:
        expected = len(elements) > 1 and smact_validity(
            formula, oxidation_states_set="smact14", include_alloys=False
        )
    except TypeError:
        expected = False  # SMACT cannot compare an element without an electronegativity
    assert is_valid(numbers_of(formula), "strict") == expected


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(numbers("Li O N F S Ti Fe Cs Au La Bi H")), min_size=1, max_size=8),
    st.sampled_from(sorted(RULES)),
    st.randoms(use_true_random=False),
)
def test_every_rule_equals_smact_in_any_order_of_sites(row, rule, random):
    formula = "".join(f"{SYMBOLS[number - 1]}{row.count(number)}" for number in sorted(set(row)))
    smact_valid = smact_validity(
        formula,
        oxidation_states_set=RULES[rule].oxidation_states,
        include_alloys=RULES[rule].metals,
    )
    metals_alone = all(SYMBOLS[number - 1] in smact.metals for number in row)
    expected = smact_valid and (RULES[rule].metals or not (metals_alone or len(set(row)) == 1))
    random.shuffle(row)
    assert is_valid(np.array(row), rule) == expected


def test_validity_of_cells_with_dozens_of_elements():
    """SMACT itself would need an intractable number of combinations of oxidation states."""
    rows = np.random.default_rng(0).integers(1, 84, (20, 100))
    rows[:, 0] = numbers("O")[0]
    by_rule = {rule: is_valid(rows, rule) for rule in RULES}
    assert (by_rule["strict"] <= by_rule["smact14"]).all()
    metals = numbers("Li Na K Rb Cs Mg Ca Sr Ba Sc Y La Ti Zr Hf V Nb Ta")
    for oxygen, neutral in ((22, True), (500, False)):
        row = np.array([*metals, *numbers("O") * oxygen])
        assert is_valid(row) == neutral
        assert not is_valid(np.array([*row, *numbers("He")]))  # without an electronegativity


def test_strict_validity_implies_validity():
    rng = np.random.default_rng(0)
    rows = rng.choice(numbers("Li O N F Ti Fe Cs Au La"), (150, 3))
    assert (is_valid(rows, "strict") <= is_valid(rows, "smact14")).all()


@pytest.mark.real
def test_perov5_test_crystals_have_the_known_share_of_valid_compositions():
    """98.60 % with the oxidation states of the paper, 98.31 % with SMACT's newer ones."""
    from crystal_gym.collections.perov5 import STRUCTURES, read_structures
    from crystal_gym.utils.files import fetch

    rows = []
    for crystal in read_structures(fetch(STRUCTURES, "perov_5")):
        if crystal.split == "test":
            lines = crystal.content.split("\n")
            rows.append(
                [SYMBOLS.index(symbol) + 1
                 for symbol, count in zip(lines[5].split(), lines[6].split(), strict=True)
                 for _ in range(int(count))]
            )  # fmt: skip
    rows = np.array(rows)
    assert rows.shape == (3785, 5)
    assert round(100 * is_valid(rows, "smact14").mean(), 2) == 98.60
    assert round(100 * is_valid(rows, "icsd24").mean(), 2) == 98.31
    assert round(100 * is_valid(rows, "strict").mean(), 2) == 98.60


def test_random_compositions_of_perov5_elements_have_the_known_share():
    """About 82 %, 72 % and 36 % of uniformly random compositions are valid."""
    from crystal_gym.collections.perov5 import ELEMENTS

    elements = Vocabulary(ELEMENTS).atomic_numbers
    rows = elements[np.random.default_rng(0).integers(0, 56, (1500, 5))]
    for rule, share in (("smact14", 0.82), ("icsd24", 0.72), ("strict", 0.36)):
        assert abs(is_valid(rows, rule).mean() - share) < 0.03
