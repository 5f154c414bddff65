"""Crystals in all space groups and settings against other libraries."""

import io
import warnings

import ase.io
import gemmi
import numpy as np
import pytest
import spglib
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter

from crystal_gym.errors import BadCrystalError
from crystal_gym.formats.cif import read_cif

SETTINGS = list(gemmi.spacegroup_table_itb())
BY_HALL = {spglib.get_spacegroup_type(h).hall_symbol: h for h in range(1, 531)}
FRACTIONS = (0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 1 / 3, 2 / 3)


def operators(group: gemmi.SpaceGroup) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotations and translations of spglib's tables."""
    found = spglib.get_symmetry_from_database(BY_HALL[group.hall])
    return found["rotations"], found["translations"]


def fitting_lattice(group: gemmi.SpaceGroup, rng: np.random.Generator) -> Lattice:
    """Return a random lattice with the symmetry of a setting, about 15 Å long."""
    basis = np.eye(3) * rng.uniform(12, 18, 3) + rng.uniform(-2, 2, (3, 3))
    rotations = operators(group)[0]
    metric = np.mean([w.T @ basis @ basis.T @ w for w in rotations], 0)
    lengths = np.sqrt(np.diag(metric))
    cosines = metric / np.outer(lengths, lengths)
    angles = np.degrees(np.arccos([cosines[1, 2], cosines[0, 2], cosines[0, 1]]))
    return Lattice.from_parameters(*np.round(lengths, 9), *np.round(angles, 9))


def random_sites(group: gemmi.SpaceGroup, rng: np.random.Generator) -> np.ndarray:
    """Return sites that do not overlap: random, special and on a random symmetry element."""
    rotations, translations = operators(group)
    sites = [rng.random(3), rng.choice(FRACTIONS, 3)]
    at = int(rng.integers(len(rotations)))
    fixed = np.linalg.lstsq(np.eye(3) - rotations[at], translations[at], rcond=None)[0]
    axes = np.linalg.svd(np.eye(3) - rotations[at])
    free = axes[2][axes[1] < 1e-8]
    special = fixed + rng.random(len(free)) @ free
    if np.allclose(rotations[at] @ special + translations[at], special):
        sites.append(special)
    return np.array(sites)


def expand(group: gemmi.SpaceGroup, lattice: Lattice, sites: np.ndarray) -> list[np.ndarray]:
    """Return the distinct images of each site, by brute force."""
    rotations, translations = operators(group)
    orbits = []
    for site in sites:
        images: list[np.ndarray] = []
        for image in rotations @ site + translations:
            offsets = image - np.array(images or [image + 0.5])
            if np.linalg.norm((offsets - np.round(offsets)) @ lattice.matrix, axis=1).min() > 1e-5:
                images.append(image)
        orbits.append(np.array(images))
    return orbits


def has_overlaps(lattice: Lattice, orbits: list[np.ndarray]) -> bool:
    coords = np.concatenate(orbits)
    distances = lattice.get_all_distances(coords, coords)
    np.fill_diagonal(distances, 9)
    return bool(distances.min() < 0.6)


def example(group: gemmi.SpaceGroup, seed: int) -> tuple[Lattice, np.ndarray, list[np.ndarray]]:
    """Return a lattice, sites without overlaps, and their orbits."""
    rng = np.random.default_rng([group.number, seed])
    while True:
        lattice, sites = fitting_lattice(group, rng), random_sites(group, rng)
        orbits = expand(group, lattice, sites)
        if not has_overlaps(lattice, orbits):
            return lattice, sites, orbits


ELEMENTS = ("Sr", "Ti", "O")


def cif(lattice: Lattice, sites: np.ndarray, symmetry: str, extra: str = "") -> str:
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    cell = "".join(f"_cell_{n} {v:.9f}\n" for n, v in zip(names, lattice.parameters, strict=True))
    rows = "".join(
        f"{element}1 {element} {x!r} {y!r} {z!r}\n"
        for element, (x, y, z) in zip(ELEMENTS, sites.tolist(), strict=False)
    )
    return (
        f"data_x\n{cell}{symmetry}{extra}loop_\n_atom_site_label\n_atom_site_type_symbol\n"
        f"_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n{rows}"
    )


def symmetry_texts(group: gemmi.SpaceGroup) -> dict[str, str]:
    """Return spellings of the symmetry that define the setting."""
    listed = "".join(f"'{operator.triplet()}'\n" for operator in group.operations())
    return {
        "operators": f"loop_\n_space_group_symop_operation_xyz\n{listed}",
        "symbol": f"_symmetry_space_group_name_H-M '{group.xhm()}'\n",
        "Hall symbol": f"_space_group_name_Hall '{group.hall}'\n",
        "all": f"_space_group_name_H-M_alt '{group.xhm().replace(':', ' :')}'\n"
        f"_space_group_name_Hall '{group.hall}'\n_space_group_IT_number {group.number}\n"
        f"loop_\n_symmetry_equiv_pos_as_xyz\n{listed}",
    }


def assert_orbits(structure: Structure, orbits: list[np.ndarray]) -> None:
    """Compare the sites, orbit by orbit in the order of the file, as sets."""
    start = 0
    for element, orbit in zip(ELEMENTS, orbits, strict=False):
        found = structure[start : start + len(orbit)]
        assert {str(site.specie) for site in found} == {element}
        coords = np.array([site.frac_coords for site in found])
        distances = structure.lattice.get_all_distances(coords, orbit)
        assert (distances.min(0) < 1e-4).all()
        assert (distances.min(1) < 1e-4).all()
        start += len(orbit)
    assert start == len(structure)


def test_all_space_groups_in_one_setting_each():
    for group in {group.number: group for group in SETTINGS}.values():
        lattice, sites, orbits = example(group, 0)
        texts = symmetry_texts(group)
        for spelling in ("symbol", "all"):
            parsed = read_cif(cif(lattice, sites, texts[spelling]))
            assert parsed.notices == (), group.xhm()
            assert_orbits(parsed.structure, orbits)


@given(
    st.sampled_from(SETTINGS),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["operators", "symbol", "Hall symbol"]),
)
@settings(max_examples=40, deadline=None)
def test_any_setting(group: gemmi.SpaceGroup, seed: int, text: str):
    lattice, sites, orbits = example(group, seed)
    assert_orbits(read_cif(cif(lattice, sites, symmetry_texts(group)[text])).structure, orbits)


@pytest.mark.parametrize(
    ("symbol", "parameters"),
    [
        ("Pn-3m:2", (18.1, 18.1, 18.1, 90, 90, 90)),
        ("R-3m:H", (9.5, 9.5, 21.9, 90, 90, 120)),
        ("P2_1/c", (6.1, 7.2, 8.3, 90, 101, 90)),
        ("Pnma", (16.1, 17.2, 18.3, 90, 90, 90)),
        ("P6_3/mmc", (9.2, 9.2, 18.1, 90, 90, 120)),
        ("Cmce", (5.2, 6.2, 8.1, 90, 90, 90)),
    ],
)
@pytest.mark.parametrize("site", [(0, 0, 0), (0.11, 0.31, 0.37), (0, 0, 0.21), (0.5, 0, 0)])
def test_structures_of_pymatgen(symbol: str, parameters: tuple, site: tuple):
    lattice = Lattice.from_parameters(*parameters)
    expected = Structure.from_spacegroup(symbol, lattice, ["Sr"], [site])
    parsed = read_cif(cif(lattice, np.array([site]), f"_space_group_name_H-M_alt {symbol}\n"))
    assert_orbits(parsed.structure, [expected.frac_coords])


@given(st.sampled_from(SETTINGS), st.integers(0, 2**32 - 1), st.floats(1e-5, 1e-4))
@settings(max_examples=20, deadline=None)
def test_rounded_special_positions_are_restored(group: gemmi.SpaceGroup, seed: int, shift: float):
    lattice, sites, _ = example(group, seed)
    orbits = expand(group, lattice, sites)
    moved = sites + np.random.default_rng(seed).uniform(-shift, shift, sites.shape)
    text = cif(lattice, moved, symmetry_texts(group)["symbol"])
    parsed = read_cif(text)
    assert len(parsed.structure) == sum(map(len, orbits))
    special = any(len(orbit) < len(operators(group)[0]) for orbit in orbits)
    assert special or not parsed.notices
    # The images are exact: reading them again gives the same number of sites without a notice.
    again = read_cif(
        cif(
            lattice,
            np.array(
                [
                    parsed.structure[sum(map(len, orbits[:i]))].frac_coords
                    for i in range(len(orbits))
                ]
            ),
            symmetry_texts(group)["operators"],
        )
    )
    assert not again.notices
    assert len(again.structure) == len(parsed.structure)


@pytest.mark.parametrize("symmetrized", [False, True])
@pytest.mark.parametrize("symbol", ["Pn-3m:2", "R-3m:H", "P2_1/c", "Pnma", "P6_3/mmc"])
def test_files_of_pymatgen(symbol: str, symmetrized: bool):
    system = {
        "Pn-3m:2": (18.1, 18.1, 18.1, 90, 90, 90),
        "R-3m:H": (9.5, 9.5, 21.9, 90, 90, 120),
        "P6_3/mmc": (9.2, 9.2, 18.1, 90, 90, 120),
        "P2_1/c": (6.1, 7.2, 8.3, 90, 101, 90),
    }
    lattice = Lattice.from_parameters(*system.get(symbol, (6.1, 7.2, 8.3, 90, 90, 90)))
    structure = Structure.from_spacegroup(
        symbol, lattice, ["Sr", "O"], [(0, 0, 0), (0.11, 0.31, 0.145)]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = str(CifWriter(structure, symprec=0.01 if symmetrized else None))
    parsed = read_cif(text).structure
    assert parsed.composition == structure.composition
    distances = parsed.lattice.get_all_distances(parsed.frac_coords, parsed.frac_coords)
    expected = structure.lattice.get_all_distances(structure.frac_coords, structure.frac_coords)
    np.testing.assert_allclose(np.sort(distances.ravel()), np.sort(expected.ravel()), atol=1e-4)


def test_files_of_ase_and_gemmi():
    structure = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [(0, 0, 0), (0.5, 0.5, 0.5)]
    )
    file = io.BytesIO()
    ase.io.write(file, AseAtomsAdaptor.get_atoms(structure), format="cif")
    assert len(read_cif(file.getvalue().decode()).structure) == 8
    small = gemmi.SmallStructure()
    small.cell.set(5.6, 5.6, 5.6, 90, 90, 90)
    small.spacegroup_hm = "F m -3 m"
    small.determine_and_set_spacegroup("H")
    for element, at in (("Na", 0.0), ("Cl", 0.5)):
        site = gemmi.SmallStructure.Site()
        site.label, site.element = f"{element}1", gemmi.Element(element)
        site.fract = gemmi.Fractional(at, at, at)
        small.add_site(site)
    parsed = read_cif(small.make_cif_block().as_string())
    assert parsed.structure.composition == structure.composition


RHOMBOHEDRAL = Lattice.from_parameters(4.746, 4.746, 4.746, 57.23, 57.23, 57.23)
CUBIC = Lattice.cubic(8.08)
SPINEL = np.array([[0, 0, 0], [0.625, 0.625, 0.625], [0.387, 0.387, 0.387]])


@pytest.mark.parametrize("symbol", ["R -3 m", "R -3 m :R", "R-3mR"])
def test_axes_follow_from_the_cell(symbol: str):
    site = np.full((1, 3), 0.234)
    text = cif(RHOMBOHEDRAL, site, f"_symmetry_space_group_name_H-M '{symbol}'\n")
    assert len(read_cif(text).structure) == 2
    number = cif(RHOMBOHEDRAL, site, "_symmetry_Int_Tables_number 166\n")
    assert len(read_cif(number).structure) == 2


@pytest.mark.parametrize(
    "symmetry", ["_space_group_name_H-M_alt 'F d -3 m'\n", "_space_group_IT_number 227\n"]
)
def test_formula_decides_the_origin_or_the_crystal_is_refused(symmetry: str):
    site = np.zeros((1, 3))  # 8 sites of diamond with origin 1, 16 sites with origin 2
    formula = "_chemical_formula_sum Sr\n"
    for extra in ("", formula):
        with pytest.raises(BadCrystalError, match=r"F d -3 m:1', 'F d -3 m:2', which"):
            read_cif(cif(CUBIC, site, symmetry, extra))
    for units in (8, 16):
        extra = f"{formula}_cell_formula_units_Z {units}\n"
        parsed = read_cif(cif(CUBIC, site, symmetry, extra))
        assert len(parsed.structure) == units
        assert f"'F d -3 m:{units // 8}'" in parsed.notices[0]
    with pytest.raises(BadCrystalError, match=r"none that agrees.*Expected 9 formula units"):
        read_cif(cif(CUBIC, site, symmetry, f"{formula}_cell_formula_units_Z 9\n"))


def test_sum_formula_decides_the_origin_of_spinel():
    extra = "_chemical_formula_sum 'Sr Ti2 O4'\n"
    parsed = read_cif(cif(CUBIC, SPINEL, "_space_group_name_H-M_alt 'F d -3 m'\n", extra))
    assert parsed.structure.composition.formula == "Sr8 Ti16 O32"
    with pytest.raises(BadCrystalError, match="Sr16 Ti8 in the cell with F d -3 m:2"):
        read_cif(cif(CUBIC, SPINEL[:2], "_space_group_name_H-M_alt 'F d -3 m:2'\n", extra))


@pytest.mark.parametrize(
    ("symmetry", "message"),
    [
        ("_space_group_name_H-M_alt 'P 63/m m c'\n", "does not fit"),
        ("_space_group_name_H-M_alt 'R -3 m :H'\n", "does not fit"),
        ("_space_group_name_H-M_alt 'F m -3 m'\n_space_group_IT_number 227\n", "number 227"),
        ("_space_group_name_H-M_alt 'F m -3 q'\n", "not in the tables"),
        ("_space_group_IT_number 231\n", "1 to 230"),
        ("_space_group_name_Hall 'F m -3 m'\n", "not in the tables"),
        ("_space_group_name_H-M_alt 'F m -3 m'\n_space_group_name_Hall '-P 1'\n", "number|group 2"),
        (
            "_space_group_name_H-M_alt 'F m -3 m'\n_space_group_symop_operation_xyz 'x,y,z'\n",
            r"'F m -3 m' \(space group 225\) and the 1 listed",
        ),
        ("_space_group_name_H-M_alt 'P 1'\n_symmetry_space_group_name_H-M 'P -1'\n", "one space"),
        ("loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-y,x,z'\n", "products are missing"),
        ("loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'x,y,z'\n", "distinct"),
        ("loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'x+1/5,y,z'\n", "a symmetry operator"),
        ("loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'a,b,c'\n", "in x, y and z"),
        ("_symmetry_equiv_pos_as_xyz 'é,y,z'\n", "in x, y and z"),
        ("", "information on the symmetry"),
    ],
)
def test_contradictory_and_unknown_symmetry_is_refused(symmetry: str, message: str):
    with pytest.raises(BadCrystalError, match=message):
        read_cif(cif(CUBIC, SPINEL, symmetry))


def test_operators_of_a_marked_setting_must_match():
    first, second = (g for g in SETTINGS if g.number == 227)
    listed = symmetry_texts(first)["operators"]
    with pytest.raises(BadCrystalError, match="another setting"):
        read_cif(cif(CUBIC, SPINEL, f"_space_group_name_H-M_alt '{second.xhm()}'\n{listed}"))


def test_without_symmetry_the_declared_content_must_be_listed():
    lattice = Lattice.cubic(3.9)
    sites = np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
    extra = "_chemical_formula_sum 'Sr Ti'\n"
    with pytest.raises(BadCrystalError, match="information on the symmetry"):
        read_cif(cif(lattice, sites, "", extra))
    assert (
        len(read_cif(cif(lattice, sites, "", extra + "_cell_formula_units_Z 1\n")).structure) == 2
    )
    with pytest.raises(BadCrystalError, match="Expected 4 formula units"):
        read_cif(cif(lattice, sites, "", extra + "_cell_formula_units_Z 4\n"))
