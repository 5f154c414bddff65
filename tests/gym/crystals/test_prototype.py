"""Prototypes against pymatgen, and their invariance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_gym.crystals.prototype import anonymous_formula, prototype, space_group_number

PEROVSKITE = np.array([[0, 0, 0], [1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2


@given(st.lists(st.integers(1, 90), min_size=1, max_size=20))
def test_anonymous_formulas_equal_those_of_pymatgen(numbers):
    from pymatgen.core import Composition, Element

    composition = Composition.from_dict({})
    for number in numbers:
        composition += Composition({Element.from_Z(number): 1})
    assert anonymous_formula(np.array(numbers)) == composition.anonymized_formula


@pytest.mark.parametrize(
    ("a", "numbers", "sites", "expected"),
    [
        (3.9, [38, 22, 8, 8, 8], PEROVSKITE, "221 ABC3 5"),
        (3.9, [8, 8, 8, 22, 38], PEROVSKITE[::-1], "221 ABC3 5"),
        (3.6, [29], [[0, 0, 0]], "221 A 1"),
        (4.1, [55, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], "221 AB 2"),
        (2.9, [26, 26], [[0, 0, 0], [0.5, 0.5, 0.5]], "229 A 2"),
    ],
)
def test_prototypes_of_known_structures(a, numbers, sites, expected):
    assert prototype(np.eye(3) * a, np.array(sites), np.array(numbers)) == expected


@pytest.mark.real
def test_space_groups_equal_those_of_pymatgen(perov5):
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    for row in range(0, len(perov5), 60):
        structure = perov5.structure(row)
        numbers = perov5.atomic_numbers[row, :5]
        group = space_group_number(structure.lattice.matrix, structure.frac_coords, numbers)
        assert group == SpacegroupAnalyzer(structure, symprec=0.01).get_space_group_number()


def test_a_cell_without_a_space_group_has_the_number_zero():
    overlapping = np.zeros((2, 3))
    assert prototype(np.eye(3) * 4, overlapping, np.array([1, 1])).startswith("0 ")
