"""Skeletons carry the geometry and nothing of the elements; bad crystals are refused."""

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
def test_replacing_every_element_and_shuffling_the_sites_leaves_the_skeleton(cell, data):
    lattice, coords = cell
    n = len(coords)
    some, others = (data.draw(st.lists(elements, min_size=n, max_size=n)) for _ in range(2))
    shuffle = np.array(data.draw(st.permutations(range(n))))
    skeleton, numbers = split_structure(Structure(lattice, some, coords))
    replaced, other_numbers = split_structure(Structure(lattice, others, coords))
    shuffled, shuffled_numbers = split_structure(
        Structure(lattice, [some[i] for i in shuffle], coords[shuffle])
    )
    permuted = Skeleton.from_structure(Structure(lattice, [some[i] for i in shuffle], coords))
    assert skeleton == replaced == shuffled == permuted
    assert hash(skeleton) == hash(shuffled)
    order = geometric_order(coords)
    assert numbers.tolist() == shuffled_numbers.tolist()
    assert numbers.tolist() == [atomic_number(some[i]) for i in order]
    assert other_numbers.tolist() == [atomic_number(others[i]) for i in order]


@settings(max_examples=15)
@given(cells(max_sites=8), st.data())
def test_filling_a_skeleton_with_its_own_elements_gives_the_crystal_back(cell, data):
    lattice, coords = cell
    species = data.draw(st.lists(elements, min_size=len(coords), max_size=len(coords)))
    structure = Structure(lattice, species, coords)
    skeleton, numbers = split_structure(structure)
    filled = skeleton.fill(numbers)
    assert filled.composition == structure.composition
    order = geometric_order(coords)
    assert [site.specie.symbol for site in filled] == [species[i] for i in order]
    assert np.allclose(filled.lattice.parameters, structure.lattice.parameters)
    apart = structure.distance_matrix[np.ix_(order, order)]
    assert np.allclose(filled.distance_matrix, apart, atol=1e-6)
    again, same_numbers = split_structure(filled)
    assert again == skeleton
    assert same_numbers.tolist() == numbers.tolist()


def test_fill_takes_symbols_and_numbers_and_counts_them():
    skeleton = Skeleton.from_structure(perovskite())
    assert skeleton.fill([8] * 5) == skeleton.fill(["O"] * 5) == skeleton.fill(np.full(5, 8))
    with pytest.raises(CrystalGymError, match="4 elements for 5 sites"):
        skeleton.fill([8] * 4)
    with pytest.raises(CrystalGymError, match="no atomic number"):
        skeleton.fill([8, 8, 8, 8, 0])


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_a_rotated_crystal_has_the_same_skeleton(seed):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.linalg.det(rotation)
    lattice = Lattice.from_parameters(4, 5, 6, 80, 95, 110)
    coords = np.array([[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]])
    turned = Lattice(lattice.matrix @ rotation)
    assert Skeleton.from_structure(
        Structure(turned, ["Na", "Cl"], coords)
    ) == Skeleton.from_structure(Structure(lattice, ["Na", "Cl"], coords))


@given(
    st.tuples(*[st.floats(2, 20)] * 3, *[st.floats(65, 115)] * 3),
)
def test_lattice_matrix_is_that_of_pymatgen(parameters):
    assert np.allclose(
        lattice_matrix(np.array(parameters)), Lattice.from_parameters(*parameters).matrix
    )


def test_right_angles_are_exact_and_batches_work():
    cubic = lattice_matrix(np.array([4.0, 5.0, 6.0, 90.0, 90.0, 90.0]))
    assert np.array_equal(cubic, np.diag([4.0, 5.0, 6.0]))
    many = lattice_matrix(np.array([[4, 5, 6, 90, 90, 90], [3, 3, 3, 60, 60, 60]]))
    assert many.shape == (2, 3, 3)
    assert np.array_equal(many[0], cubic)
    assert np.linalg.det(many[1]) == pytest.approx(27 / np.sqrt(2))


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3))
def test_wrapping_moves_into_the_cell_by_whole_cells(coords):
    wrapped = wrap(np.array(coords))
    assert ((wrapped >= 0) & (wrapped < 1)).all()
    assert np.array_equal(wrap(wrapped), wrapped)
    shift = np.array(coords) - wrapped
    assert np.allclose(shift, np.round(shift), atol=1e-8)


@pytest.mark.parametrize("value", [-1e-12, 1.0, 1 - 1e-12, 1e-12, -1.0])
def test_a_site_on_a_face_goes_to_zero(value):
    assert wrap(np.array([value])).tolist() == [0.0]


def test_edge_vectors_reach_the_neighbours_image():
    skeleton = Skeleton.from_structure(perovskite())
    a = 3.905
    lengths = np.linalg.norm(skeleton.edge_vectors, axis=1)
    assert set(np.round(lengths, 4)) == {round(a / 2, 4), round(a / 2**0.5, 4)}
    assert np.allclose(skeleton.cartesian_coords, skeleton.frac_coords * a)
    assert (skeleton.in_cell_edges[:, 2:] == 0).all()
    assert 0 < len(skeleton.in_cell_edges) < len(skeleton.edges)


def test_traversals_start_at_an_existing_site():
    skeleton = Skeleton.from_structure(perovskite())
    assert skeleton.traversal(2)[0] == 2
    for start_site in (-1, 5):
        with pytest.raises(CrystalGymError, match="none of the 5 sites"):
            skeleton.traversal(start_site)


def test_the_order_can_be_given_but_must_be_a_permutation():
    skeleton, numbers = split_structure(perovskite(), np.array([4, 3, 2, 1, 0]))
    assert numbers.tolist() == [8, 8, 8, 22, 38]
    assert skeleton.frac_coords[4].tolist() == [0, 0, 0]
    with pytest.raises(CrystalGymError, match="no permutation of 5 sites"):
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
    yield "dummy species", Structure(cubic, ["X", "Cl"], middle), "Site 0 carries no element"
    nowhere = Structure(cubic, ["Na"], [[0, float("nan"), 0]])
    yield "NaN coordinate", nowhere, "not a finite number"
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
def test_bad_crystals_are_refused_with_a_reason(structure, message):
    with pytest.raises(BadCrystalError, match=message):
        Skeleton.from_structure(structure)


def test_too_many_sites_are_refused_before_any_work():
    with pytest.raises(BadCrystalError, match="5 sites; at most 4"):
        Skeleton.from_structure(perovskite(), max_sites=4)
    assert Skeleton.from_structure(perovskite(), max_sites=5).n_sites == 5


def test_charged_species_count_as_their_elements():
    bare, charged = perovskite(), perovskite(species=("Sr2+", "Ti4+", "O2-", "O2-", "O2-"))
    assert Skeleton.from_structure(bare) == Skeleton.from_structure(charged)
    assert split_structure(charged)[1].tolist() == split_structure(bare)[1].tolist()
