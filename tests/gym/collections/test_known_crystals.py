"""Search for crystals by composition and structure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from crystal_gym import load_collection
from crystal_gym.collections.known_crystals import KnownCrystals, reduced_composition
from crystal_gym.collections.structures import collection_from_structures


@pytest.fixture(scope="module")
def salt():
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


@pytest.fixture(scope="module")
def known(salt):
    caesium_chloride = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    collection = collection_from_structures(
        [salt.get_primitive_structure(), caesium_chloride],
        ids=["salt", "caesium"],
        splits=["train", "val"],
    )
    return KnownCrystals(collection)


def test_other_cells_and_volumes_of_a_crystal_match(known, salt):
    expanded = salt.copy()
    expanded.apply_strain(0.02)
    for cell in (salt, salt * (2, 1, 1), expanded):
        assert known.matches(cell) == ["salt"]
        assert known.has_composition(cell)


def test_another_structure_of_a_composition_does_not_match(known):
    caesium_type = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    assert known.has_composition(caesium_type)
    assert known.matches(caesium_type) == []


def test_crystals_of_other_splits_are_not_searched(known):
    row = next(r for r in range(2) if known.collection.ids[r] == "caesium")
    assert known.matches(known.collection.structure(row)) == []
    assert KnownCrystals(known.collection, "all").matches(known.collection.structure(row))


@pytest.mark.parametrize("row", [0, 17])
def test_every_crystal_of_a_collection_matches_itself(row):
    goldschmidt = load_collection("goldschmidt")
    found = KnownCrystals(goldschmidt, "all").matches(goldschmidt.structure(row))
    assert str(goldschmidt.ids[row]) in found


@given(
    counts=st.dictionaries(st.integers(1, 90), st.integers(1, 4), min_size=1, max_size=4),
    factor=st.integers(1, 5),
)
def test_multiples_of_a_composition_are_reduced_to_the_same(counts, factor):
    one = np.repeat(list(counts), list(counts.values()))
    many = np.append(np.tile(one, factor), [0, 0])
    assert reduced_composition(many) == reduced_composition(one)
