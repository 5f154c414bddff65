"""Test that skeletons contain the geometry without elements, and that bad crystals are rejected."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from strategies import cells

from crystal_gym.crystals.elements import SYMBOLS, atomic_number
from crystal_gym.crystals.skeleton import (
    Skeleton,
    geometric_order,
    lattice_matrix,
    split_structure,
    wrap,
)
from crystal_gym.errors import BadCrystalError, CrystalGymError

elements = st.sampled_from(SYMBOLS[:94])


def perovskite(lattice=None, species=("Sr", "Ti", "O", "O", "O"), coords=None):
    sites = np.array([[0, 0, 0], [1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    return Structure(
        lattice or Lattice.cubic(3.905), list(species), sites if coords is None else coords
    )


@settings(max_examples=20)
@given(cells(), st.data())
def test_skeleton_does_not_depend_on_elements_or_file_order(cell, data):
    lattice, coords = cell
    n = len(coords)
    species, other_species = (
        data.draw(st.lists(elements, min_size=n, max_size=n)) for _ in range(2)
    )
    shuffle = np.array(data.draw(st.permutations(range(n))))
    skeleton, numbers = split_structure(Structure(lattice, species, coords))
    replaced, other_numbers = split_structure(Structure(lattice, other_species, coords))
    shuffled, shuffled_numbers = split_structure(
        Structure(lattice, [species[i] for i in shuffle], coords[shuffle])
    )
    permuted = Skeleton.from_structure(Structure(lattice, [species[i] for i in shuffle], coords))
    assert skeleton == replaced == shuffled == permuted
    assert hash(skeleton) == hash(shuffled)
    order = geometric_order(coords)
    assert numbers.tolist() == shuffled_numbers.tolist()
    assert numbers.tolist() == [atomic_number(species[i]) for i in order]
    assert other_numbers.tolist() == [atomic_number(other_species[i]) for i in order]


@settings(max_examples=15)
@given(cells(max_sites=8), st.data())
def test_fill_with_the_true_elements_restores_the_crystal(cell, data):
    lattice, coords = cell
    species = data.draw(st.lists(elements, min_size=len(coords), max_size=len(coords)))
    structure = Structure(lattice, species, coords)
    skeleton, numbers = split_structure(structure)
    filled = skeleton.fill(numbers)
    assert filled.composition == structure.composition
    order = geometric_order(coords)
    assert [site.specie.symbol for site in filled] == [species[i] for i in order]
    assert np.allclose(filled.lattice.parameters, structure.lattice.parameters)
    distances = structure.distance_matrix[np.ix_(order, order)]
    assert np.allclose(filled.distance_matrix, distances, atol=1e-6)
    same_skeleton, same_numbers = split_structure(filled)
    assert same_skeleton == skeleton
    assert same_numbers.tolist() == numbers.tolist()


def test_fill_accepts_one_symbol_or_number_for_each_site():
    skeleton = Skeleton.from_structure(perovskite())
    assert skeleton.fill([8] * 5) == skeleton.fill(["O"] * 5) == skeleton.fill(np.full(5, 8))
    with pytest.raises(CrystalGymError, match="Expected 5 elements, one for each site, got 4"):
        skeleton.fill([8] * 4)
    with pytest.raises(CrystalGymError, match="atomic number from 1 to 118, got 0"):
        skeleton.fill([8, 8, 8, 8, 0])


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_rotated_crystal_has_the_same_skeleton(seed):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.linalg.det(rotation)
    lattice = Lattice.from_parameters(4, 5, 6, 80, 95, 110)
    coords = np.array([[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]])
    rotated = Lattice(lattice.matrix @ rotation)
    assert Skeleton.from_structure(
        Structure(rotated, ["Na", "Cl"], coords)
    ) == Skeleton.from_structure(Structure(lattice, ["Na", "Cl"], coords))


@given(
    st.tuples(*[st.floats(2, 20)] * 3, *[st.floats(65, 115)] * 3),
)
def test_lattice_matrix_equals_that_of_pymatgen(parameters):
    assert np.allclose(
        lattice_matrix(np.array(parameters)), Lattice.from_parameters(*parameters).matrix
    )


def test_lattice_matrix_has_exact_right_angles_and_accepts_batches():
    cubic = lattice_matrix(np.array([4.0, 5.0, 6.0, 90.0, 90.0, 90.0]))
    assert np.array_equal(cubic, np.diag([4.0, 5.0, 6.0]))
    batch = lattice_matrix(np.array([[4, 5, 6, 90, 90, 90], [3, 3, 3, 60, 60, 60]]))
    assert batch.shape == (2, 3, 3)
    assert np.array_equal(batch[0], cubic)
    assert np.linalg.det(batch[1]) == pytest.approx(27 / np.sqrt(2))


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3))
def test_wrap_shifts_coordinates_into_the_cell_by_integers(coords):
    wrapped = wrap(np.array(coords))
    assert ((wrapped >= 0) & (wrapped < 1)).all()
    assert np.array_equal(wrap(wrapped), wrapped)
    shift = np.array(coords) - wrapped
    assert np.allclose(shift, np.round(shift), atol=1e-8)


@pytest.mark.parametrize("value", [-1e-12, 1.0, 1 - 1e-12, 1e-12, -1.0])
def test_wrap_moves_sites_on_a_face_to_zero(value):
    assert wrap(np.array([value])).tolist() == [0.0]


def test_edge_vectors_have_the_lengths_to_the_neighbor_images():
    skeleton = Skeleton.from_structure(perovskite())
    a = 3.905
    lengths = np.linalg.norm(skeleton.edge_vectors, axis=1)
    assert set(np.round(lengths, 4)) == {round(a / 2, 4), round(a / 2**0.5, 4)}
    assert np.allclose(skeleton.cartesian_coords, skeleton.frac_coords * a)
    assert (skeleton.in_cell_edges[:, 2:] == 0).all()
    assert 0 < len(skeleton.in_cell_edges) < len(skeleton.edges)


def test_traversal_rejects_start_sites_out_of_range():
    skeleton = Skeleton.from_structure(perovskite())
    assert skeleton.traversal(2)[0] == 2
    for start_site in (-1, 5):
        with pytest.raises(CrystalGymError, match=f"start site from 0 to 4, got {start_site}"):
            skeleton.traversal(start_site)


def test_site_order_must_be_a_permutation():
    skeleton, numbers = split_structure(perovskite(), np.array([4, 3, 2, 1, 0]))
    assert numbers.tolist() == [8, 8, 8, 22, 38]
    assert skeleton.frac_coords[4].tolist() == [0, 0, 0]
    with pytest.raises(CrystalGymError, match="a permutation of the 5 sites"):
        split_structure(perovskite(), np.array([0, 1, 2, 3, 3]))


def bad_crystals():
    cubic = Lattice.cubic(4)
    middle = [[0, 0, 0], [0.5, 0.5, 0.5]]
    yield "no sites", Structure(cubic, [], []), "no sites"
    partial = Structure(cubic, [{"Na": 0.5}, "Cl"], middle)
    yield "partial occupancy", partial, "Site 0 is disordered or partly occupied"
    mixed = Structure(cubic, ["Na", {"Cl": 0.5, "Br": 0.5}], middle)
    yield "disorder", mixed, "Site 1 is disordered"
    close = Structure(cubic, ["Na", "Cl"], [[0, 0, 0], [0.01, 0, 0]])
    yield "overlap", close, "Sites 0 and 1 overlap: 0.040 Å"
    across = Structure(cubic, ["Na", "Cl"], [[0.995, 0, 0], [0.005, 0, 0]])
    yield "overlap across a face", across, "overlap: 0.040 Å"
    not_finite = Structure(cubic, ["Na"], [[0, float("nan"), 0]])
    yield "NaN coordinate", not_finite, "Expected finite"
    flat = Structure([[4, 0, 0], [0, 4, 0], [4, 4, 1e-3]], ["Na"], [[0, 0, 0]])
    yield "flat cell", flat, "The cell is flat"
    tiny = Structure(Lattice.cubic(0.3), ["Na"], [[0, 0, 0]])
    yield "tiny cell", tiny, "too small"
    skewed = Structure([[4, 0, 0], [4, 0.3, 0], [0, 0, 4]], ["Na"], [[0, 0, 0]])
    yield "skewed cell", skewed, "overlaps its own image, 0.300 Å away"


@pytest.mark.parametrize(
    ("structure", "message"),
    [pytest.param(s, m, id=name) for name, s, m in bad_crystals()],
)
def test_bad_crystals_are_rejected_with_a_reason(structure, message):
    with pytest.raises(BadCrystalError, match=message):
        Skeleton.from_structure(structure)


def test_skeletons_ignore_dummy_species_and_structures_need_elements():
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    dummies = Structure(Lattice.cubic(4), ["X", "Cl"], sites)
    elements = Structure(Lattice.cubic(4), ["Na", "Cl"], sites)
    assert Skeleton.from_structure(dummies) == Skeleton.from_structure(elements)
    with pytest.raises(BadCrystalError, match="an element on site 0, got the dummy species"):
        split_structure(dummies)


def test_too_many_sites_are_rejected():
    with pytest.raises(BadCrystalError, match="at most 4 sites, got 5"):
        Skeleton.from_structure(perovskite(), max_sites=4)
    assert Skeleton.from_structure(perovskite(), max_sites=5).n_sites == 5


def test_charged_species_give_the_same_skeleton_and_elements():
    bare, charged = perovskite(), perovskite(species=("Sr2+", "Ti4+", "O2-", "O2-", "O2-"))
    assert Skeleton.from_structure(bare) == Skeleton.from_structure(charged)
    assert split_structure(charged)[1].tolist() == split_structure(bare)[1].tolist()
