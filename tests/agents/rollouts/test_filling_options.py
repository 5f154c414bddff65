"""Compositions, excluded elements, beams, samples without replacement, and lists of crystals."""

import itertools
from collections import Counter

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from small_policies import PEROVSKITE, make_policy

from crystal_gym.errors import CrystalGymError


@pytest.fixture(scope="module")
def policy():
    return make_policy(scale=3.0)


@pytest.fixture
def perovskite():
    return Structure(Lattice.cubic(3.905), ["Sr", "Ti", "O", "O", "O"], PEROVSKITE)


@pytest.fixture
def rock_salt():
    return Structure(Lattice.cubic(4.1), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def symbols(filling):
    return [site.specie.symbol for site in filling.structure]


def test_a_composition_is_assigned_in_the_most_probable_ways(policy, perovskite):
    fillings = policy.fill(perovskite, composition="SrTiO3", beam=20)
    assert len(fillings) == 20  # 5! / 3!
    assert {tuple(sorted(symbols(filling))) for filling in fillings} == {
        ("O", "O", "O", "Sr", "Ti")
    }
    assert len({tuple(symbols(filling)) for filling in fillings}) == 20
    totals = [filling.log_probability for filling in fillings]
    assert totals == sorted(totals, reverse=True)
    assert np.isclose(np.exp(totals).sum(), 1)
    (greedy,) = policy.fill(perovskite, composition={"Sr": 1, "Ti": 1, "O": 3})
    assert Counter(symbols(greedy)) == {"O": 3, "Sr": 1, "Ti": 1}


def test_a_cell_can_have_several_formula_units(policy, perovskite):
    perovskite.make_supercell([2, 1, 1])
    (filling,) = policy.fill(perovskite, composition="SrTiO3")
    assert Counter(symbols(filling)) == {"O": 6, "Sr": 2, "Ti": 2}


def test_a_beam_finds_the_fillings_with_the_highest_probabilities(policy, perovskite):
    elements = ["Sr", "Ti", "O"]
    every = policy.fill(perovskite, elements=elements, beam=3**5)
    assert len(every) == 3**5
    assert {tuple(symbols(filling)) for filling in every} == set(
        itertools.product(elements, repeat=5)
    )
    few = policy.fill(perovskite, elements=elements, beam=4)
    assert np.allclose(few[0].log_probability, every[0].log_probability, atol=1e-4)
    by_elements = {tuple(symbols(filling)): filling.log_probability for filling in every}
    for filling in few:
        assert np.isclose(filling.log_probability, by_elements[tuple(symbols(filling))], atol=1e-4)
        assert np.isclose(np.log(filling.probabilities).sum(), filling.log_probability)


def test_samples_without_replacement_are_different(policy, perovskite):
    fillings = policy.fill(perovskite, elements=["Sr", "O"], samples=25, replacement=False)
    assert len(fillings) == 25
    assert {filling.count for filling in fillings} == {1}
    assert len(policy.fill(perovskite, elements=["Sr", "O"], samples=99, replacement=False)) == 32


def test_excluded_elements_are_not_chosen(policy, perovskite):
    chosen = {
        symbol
        for filling in policy.fill(perovskite, samples=60, exclude=["O", "Ti"], temperature=3.0)
        for symbol in symbols(filling)
    }
    assert chosen
    assert chosen <= set(policy.vocabulary.symbols) - {"O", "Ti"}
    kept = policy.fill(perovskite, exclude=["O"], keep_elements=["O"])[0]
    assert symbols(kept)[2:] == ["O", "O", "O"]
    assert "O" not in symbols(kept)[:2]


def test_kept_sites_belong_to_the_composition(policy, perovskite):
    fillings = policy.fill(perovskite, composition="SrTiO3", keep_elements=["O"], beam=9)
    assert sorted(symbols(filling)[:2] for filling in fillings) == [["Sr", "Ti"], ["Ti", "Sr"]]
    assert np.isclose(np.exp([filling.log_probability for filling in fillings]).sum(), 1)


@pytest.mark.parametrize(
    "options",
    [{}, {"beam": 3}, {"keep": [1]}, {"elements": ["Sr", "O"], "keep": [0]}, {"mask": "none"}],
)
def test_a_list_is_filled_as_its_crystals_are(policy, perovskite, rock_salt, options):
    stretched = perovskite.copy()
    stretched.apply_strain(0.05)
    crystals = [perovskite, rock_salt, stretched, rock_salt.copy()]
    together = policy.fill_all(crystals, **options)
    assert len(together) == 4
    for crystal, fillings in zip(crystals, together, strict=True):
        alone = policy.fill(crystal, **options)
        assert [symbols(filling) for filling in fillings] == [symbols(one) for one in alone]
        for filling, one in zip(fillings, alone, strict=True):
            assert np.isclose(filling.log_probability, one.log_probability, atol=1e-4)
            assert np.allclose(filling.structure.frac_coords, crystal.frac_coords)
            assert filling.order == one.order
    assert policy.fill_all([]) == []


def test_samples_of_a_list_are_counted_for_each_crystal(policy, perovskite, rock_salt):
    for fillings in policy.fill_all([perovskite, rock_salt, perovskite], samples=7):
        assert sum(filling.count for filling in fillings) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"composition": "SrTiO3", "elements": ["Sr"]}, "either composition or elements"),
        ({"composition": "SrTiO4"}, "fits a cell of 5 sites, got 'SrTiO4' with 6 atoms"),
        ({"composition": "Sr0.5O0.5"}, "whole numbers of atoms"),
        ({"composition": "Sr!"}, "Expected a composition, such as 'SrTiO3'"),
        ({"composition": "UO4"}, "of the policy's elements .* got U"),
        ({"composition": "SrTi4", "keep": [2]}, "got more O on kept sites"),
        ({"exclude": ["Xx"]}, "Xx"),
        ({"exclude": "O", "elements": ["O"]}, "elements that are not excluded, got none"),
        ({"beam": 0}, "Expected beam to be at least 1"),
        ({"beam": 2, "samples": 2}, "either beam or samples"),
        ({"beam": 2, "temperature": 2.0}, "Expected temperature 1"),
        ({"samples": 2, "replacement": False, "temperature": 2.0}, "Expected temperature 1"),
    ],
)
def test_invalid_options_are_rejected(policy, perovskite, options, message):
    with pytest.raises(CrystalGymError, match=message):
        policy.fill(perovskite, **options)


def test_errors_of_a_list_name_the_crystal(policy, perovskite, rock_salt):
    with pytest.raises(CrystalGymError, match=r"Crystal 1 of 2: .*sites from 0 to 1"):
        policy.fill_all([perovskite, rock_salt], keep=[3])
