"""Test the chemistry of the computed perovskites and the arrays in the package."""

import subprocess
import sys

import numpy as np
import pytest

from crystal_gym.collections import describe_collection, goldschmidt, load_collection, preparation
from crystal_gym.collections.collection import ARRAYS, formula
from crystal_gym.collections.preparation import load_arrays
from crystal_gym.crystals import neighbors, skeleton
from crystal_gym.crystals.elements import atomic_number


@pytest.fixture(scope="module")
def collection():
    return load_collection("goldschmidt")


@pytest.fixture(scope="module")
def perovskites():
    return list(goldschmidt.perovskites())


# Measured lattice constants in Å; the error of the formula is below 2 %.
@pytest.mark.parametrize(
    ("name", "measured"),
    [("SrTiO3", 3.905), ("BaTiO3", 4.00), ("KTaO3", 3.989), ("CsPbBr3", 5.87), ("KMgF3", 3.989)],
)
def test_lattice_constants_agree_with_measurements(collection, perovskites, name, measured):
    (perovskite,) = (p for p in perovskites if p.formula == name)
    constant = goldschmidt.lattice_constant(
        perovskite.a.radius, perovskite.b.radius, goldschmidt.anion_radius(perovskite.x)
    )
    assert constant == pytest.approx(measured, rel=0.02)
    parameters = collection.parameters[collection.index(name)]
    assert parameters == pytest.approx([constant] * 3 + [90] * 3, abs=5e-4)


def test_tolerance_factor_of_touching_spheres_is_one():
    assert goldschmidt.tolerance_factor(2**0.5 * 2 - 1, 1, 1) == pytest.approx(1)
    # Shannon's radii of SrTiO3, with Sr in twelvefold coordination, give 1.00 as in textbooks.
    assert goldschmidt.tolerance_factor(1.44, 0.605, 1.40) == pytest.approx(1.002, abs=5e-4)


def test_perovskites_are_neutral_and_within_the_bounds(perovskites):
    for a, b, x, _ in perovskites:
        radius = goldschmidt.anion_radius(x)
        assert a.charge + b.charge + 3 * goldschmidt.ANIONS[x] == 0
        assert 0.8 <= goldschmidt.tolerance_factor(a.widest, b.radius, radius) <= 1.07
        assert b.radius / radius > 0.41
        assert a.radius > b.radius
    assert len({p.formula for p in perovskites}) == len(perovskites) >= 1000


def test_perovskites_are_neutral_according_to_smact(perovskites):
    import smact

    for a, b, x, _ in perovskites[::25]:
        charges = [a.charge, b.charge, goldschmidt.ANIONS[x]]
        assert smact.neutral_ratios(charges, stoichs=[(1,), (1,), (3,)])[0]


def test_arrays_in_the_package_equal_newly_computed_ones(perovskites, monkeypatch):
    """Compute all arrays again, but edges only once for cells that differ by less than 0.1 Å."""
    edges_of = {}

    def neighbor_edges(lattice, frac_coords):
        key = (round(float(lattice[0, 0]), 1), frac_coords.tobytes())
        if key not in edges_of:
            edges_of[key] = neighbors.neighbor_edges(lattice, frac_coords)
        return edges_of[key]

    monkeypatch.setattr(skeleton, "neighbor_edges", neighbor_edges)
    monkeypatch.setattr(preparation, "SERIAL_LIMIT", len(perovskites))
    computed = goldschmidt.make_arrays(perovskites)
    packaged = load_arrays(goldschmidt.PREPARED)
    assert set(computed) == set(packaged) == set(ARRAYS)
    for name in ARRAYS:
        assert computed[name].dtype == packaged[name].dtype
        assert np.array_equal(computed[name], packaged[name]), name


def test_ids_are_formulas_and_the_site_order_is_a_b_x_x_x(collection):
    assert len(set(collection.ids.tolist())) == len(collection) >= 1000
    for row, crystal in enumerate(collection.ids.tolist()):
        assert formula(collection.atomic_numbers[row]) == crystal
    assert np.array_equal(
        collection.frac_coords, np.broadcast_to(goldschmidt.SITES, (len(collection), 5, 3))
    )
    numbers = collection.atomic_numbers[collection.index("SrTiO3")]
    assert numbers.tolist() == [atomic_number(s) for s in ("Sr", "Ti", "O", "O", "O")]


def test_splits_are_60_20_20_without_a_composition_in_two_splits(collection):
    counts = [len(collection.in_split(split)) for split in ("train", "val", "test")]
    assert np.allclose(np.array(counts) / len(collection), [0.6, 0.2, 0.2], atol=0.001)
    split_of = {}
    for row, split in zip(collection.atomic_numbers.tolist(), collection.splits, strict=True):
        assert split_of.setdefault(tuple(sorted(row)), split) == split
    assert len(split_of) < len(collection)  # some pairs of cations occur in both orders
    train = collection.atomic_numbers[collection.in_split("train")]
    assert set(np.unique(train)) == set(np.unique(collection.atomic_numbers))


def test_coordination_numbers_are_those_of_a_perovskite(collection):
    sources = collection.edges[..., 0]
    for site, number in enumerate([12, 6, 6, 6, 6]):
        assert ((sources == site).sum(axis=1) == number).all()


def test_descriptions_state_that_the_crystals_are_computed(collection):
    for text in (collection.description, describe_collection("goldschmidt"), goldschmidt.__doc__):
        assert "computed" in text
        assert "not measured" in text


def test_goldschmidt_loads_without_the_chemistry_libraries():
    code = (
        "import sys; from crystal_gym.collections import load_collection; "
        "load_collection('goldschmidt'); "
        "print([m for m in ('pymatgen', 'smact', 'scipy', 'joblib', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
