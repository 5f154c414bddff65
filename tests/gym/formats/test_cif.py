"""Content of CIFs: blocks, labels, occupancies, positions and declarations."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_gym.errors import BadCrystalError
from crystal_gym.formats.cif import read_cif

CELL = """\
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {a}
_cell_angle_alpha {angle}
_cell_angle_beta {angle}
_cell_angle_gamma {angle}
"""
P1 = "_space_group_name_H-M_alt 'P 1'\n"
LOOP = "loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n"
LOOP += "_atom_site_fract_z\n"
PEROVSKITE = "Sr1 Sr 0 0 0\nTi1 Ti .5 .5 .5\nO1 O .5 .5 0\nO2 O .5 0 .5\nO3 O 0 .5 .5\n"


def cif(sites: str = PEROVSKITE, extra: str = P1, loop: str = LOOP, a="3.905", angle="90") -> str:
    return f"data_x\n{CELL.format(a=a, angle=angle)}{extra}{loop}{sites}"


def labeled(*labels: str, formula: str | None = None) -> str:
    """Return a CIF with labels but no type symbols."""
    rows = "".join(f"{label} {i / len(labels)} 0 0\n" for i, label in enumerate(labels))
    extra = P1 + (f"_chemical_formula_sum '{formula}'\n" if formula else "")
    return cif(rows, extra, LOOP.replace("_atom_site_type_symbol\n", ""), a="20")


def symbols(text: str) -> list[str]:
    return [str(site.specie) for site in read_cif(text).structure]


def test_sites_keep_the_order_of_the_file():
    rows = PEROVSKITE.splitlines(keepends=True)
    for order in ([4, 3, 2, 1, 0], [1, 3, 0, 2, 4]):
        parsed = read_cif(cif("".join(rows[i] for i in order)))
        assert [str(s.specie) for s in parsed.structure] == [rows[i].split()[1] for i in order]
        assert parsed.notices == ()


def test_images_follow_their_site_in_the_order_of_the_operators():
    operators = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-x,-y,-z'\n"
    parsed = read_cif(cif("O1 O .1 .2 .3\nLi1 Li 0 0 0\nNa1 Na .4 .4 .4\n", operators))
    assert [str(site.specie) for site in parsed.structure] == ["O", "O", "Li", "Na", "Na"]
    np.testing.assert_allclose(parsed.structure.frac_coords[1], [0.9, 0.8, 0.7])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1234(5)", 0.1234),
        (".5", 0.5),
        ("-.25", 0.75),
        ("1.", 0),
        ("1e-1", 0.1),
        ("+0.5", 0.5),
        ("0.3333", 1 / 3),
        ("0.66667(2)", 2 / 3),
        ("0.333", 0.333),
    ],
)
def test_coordinates(text: str, value: float):
    parsed = read_cif(cif(f"Sr1 Sr {text} 0 0\n"))
    assert parsed.structure.frac_coords[0, 0] == pytest.approx(value, abs=1e-15)
    assert parsed.notices == ()


@pytest.mark.parametrize("text", ["?", ".", "1/3", "abc", "nan", "inf"])
def test_unknown_coordinates_name_the_site(text: str):
    with pytest.raises(BadCrystalError, match=r"coordinates of site 'Ti1'"):
        read_cif(cif(PEROVSKITE.replace("Ti .5", f"Ti {text}")))


@pytest.mark.parametrize(
    ("label", "formula", "element"),
    [
        ("HO1", "H Li", "H"),
        ("HO1", "Ho Li", "Ho"),
        ("Ho1", "Li H", "H"),
        ("CA1", "C Li", "C"),
        ("CA1", "Ca Li", "Ca"),
        ("Ca1", "Ca C Li", None),
        ("CD", "Cd Li", "Cd"),
        ("O1W", "O Li", "O"),
        ("OW1", "O Li", "O"),
        ("OH", "O Li", "O"),
        ("Oap1", "O Li", "O"),
        ("D1", "D Li", "H"),
        ("D1", "H Li", "H"),
        ("SI2", "Si Li", "Si"),
        ("Na+", "Na Li", "Na"),
    ],
)
def test_formula_decides_labels_without_a_type_symbol(label, formula, element):
    text = labeled(label, "Li1", formula=formula)
    if element is None:
        with pytest.raises(BadCrystalError, match="C is missing"):
            read_cif(text)
    else:
        assert symbols(text) == [element, "Li"]


@pytest.mark.parametrize("label", ["Na1", "O", "O1W", "O12", "LI1", "Sr", "Ca1", "U1a"])
def test_labels_that_name_one_element_need_no_formula(label: str):
    element = "".join(c for c in label[:2] if c.isalpha()).capitalize()
    assert symbols(labeled(label)) == [element]


@pytest.mark.parametrize(
    "label",
    [
        "HO1",
        "CA1",
        "CD",
        "OH",
        "Wat1",
        "OW1",
        "X",
        "M1",
        "T1",
        "Vac",
        "NH4",
        "?",
        "Q1",
        "1O",
        "Xx1",
    ],
)
def test_labels_in_doubt_are_refused(label: str):
    with pytest.raises(BadCrystalError, match="label"):
        read_cif(labeled(label, "Li1"))
    if label not in {"OH", "OW1"}:  # oxygen of the formula
        with pytest.raises(BadCrystalError, match="label"):
            read_cif(labeled(label, "Li1", formula="Li O"))


def test_labels_with_two_elements_of_the_formula_are_refused():
    with pytest.raises(BadCrystalError, match=r"'HO1', which can mean Ho or H"):
        read_cif(labeled("HO1", "Ho1", formula="H Ho"))


@pytest.mark.parametrize(
    ("kind", "element"),
    [
        ("Sr2+", "Sr"),
        ("O2-", "O"),
        ("Fe+3", "Fe"),
        ("SR", "Sr"),
        ("Siv", None),
        ("Cval", "C"),
        ("H", "H"),
        ("D", "H"),
        ("Wat", None),
        ("OH", None),
        ("X", None),
        ("Nb,Zr", None),
        ("'0.8Nb + 0.2Zr'", None),
        ("T", None),
    ],
)
def test_type_symbols(kind: str, element: str | None):
    text = cif(f"site1 {kind} 0 0 0\n")
    if element is None:
        with pytest.raises(BadCrystalError, match="type symbol of site 'site1'"):
            read_cif(text)
        return
    parsed = read_cif(text)
    assert [str(site.specie) for site in parsed.structure] == [element]
    assert bool(parsed.notices) == (kind == "D")


@pytest.mark.parametrize("occupancy", ["1", "1.0", "0.9999", "1.0004(9)", ".", "0.999"])
def test_occupancies_near_one_count_as_one(occupancy: str):
    rows = "".join(f"{row} 1\n" for row in PEROVSKITE.splitlines())
    rows = rows.replace("Ti .5 .5 .5 1", f"Ti .5 .5 .5 {occupancy}")
    parsed = read_cif(cif(rows, loop=f"{LOOP}_atom_site_occupancy\n"))
    assert len(parsed.structure) == 5
    assert parsed.structure.is_ordered
    assert bool(parsed.notices) == (occupancy not in {"1", "1.0", "."})


@pytest.mark.parametrize("occupancy", ["0.5", "0.99", "1.1", "-1", "abc"])
def test_other_occupancies_are_refused(occupancy: str):
    with pytest.raises(BadCrystalError, match=r"'Ti1'.*(partly occupied|number)|number.*'Ti1'"):
        read_cif(cif(f"Ti1 Ti 0 0 0 {occupancy}\n", loop=f"{LOOP}_atom_site_occupancy\n"))


def test_empty_sites_are_left_out_with_a_notice():
    parsed = read_cif(
        cif("Sr1 Sr 0 0 0 1\nO1 O .5 .5 .5 0\n", loop=f"{LOOP}_atom_site_occupancy\n")
    )
    assert [str(site.specie) for site in parsed.structure] == ["Sr"]
    assert "occupancy zero" in parsed.notices[0]


def test_disorder_and_hydrogen_without_positions_are_refused():
    with pytest.raises(BadCrystalError, match="share a position"):
        read_cif(cif("Sr1 Sr 0 0 0\nBa1 Ba 0 0 0.0001\n"))
    with pytest.raises(BadCrystalError, match="disorder groups 1, 2"):
        read_cif(cif("O1 O 0 0 0 1\nO2 O .1 0 .5 2\n", loop=f"{LOOP}_atom_site_disorder_group\n"))
    with pytest.raises(BadCrystalError, match=r"'O1' with 2 attached.*H is missing"):
        read_cif(cif("O1 O 0 0 0 2\n", loop=f"{LOOP}_atom_site_attached_hydrogens\n"))


def test_repeated_sites_are_merged_with_a_notice():
    parsed = read_cif(cif("Sr1 Sr 0 0 0\nSr2 Sr 1 1 0.001\nO1 O .5 .5 .5\n"))
    assert [str(site.specie) for site in parsed.structure] == ["Sr", "O"]
    assert "0.0039 Å" in parsed.notices[0]
    with pytest.raises(BadCrystalError, match="ratios"):
        read_cif(
            cif(
                "Sr1 Sr 0 0 0\nSr2 Sr 1 1 0.001\nO1 O .5 .5 .5\n",
                f"{P1}_chemical_formula_sum 'Sr2 O'\n",
            )
        )


def test_rounded_coordinates_of_a_zeolite_are_merged_with_a_notice():
    # x, 2x and 1 - x, y positions of a hexagonal group with four decimals
    extra = "_space_group_name_H-M_alt 'P 63/m m c'\n"
    text = cif("Si1 Si 0.1567 0.3135 0.25\nO1 O 0.4242 0.8485 0.1\n", extra, a="20", angle="90")
    text = text.replace("gamma 90", "gamma 120")
    parsed = read_cif(text)
    assert parsed.structure.composition.formula == "Si6 O12"
    assert "listed sites: 2, largest distance: 0.00" in parsed.notices[0]
    x, y, _ = parsed.structure.frac_coords[0]
    assert y == pytest.approx(2 * x, abs=1e-12)
    with pytest.raises(BadCrystalError, match=r"Images of site 'Si1' overlap: 0.0\d\d Å apart"):
        read_cif(text.replace("0.3135", "0.3160"))


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("_chemical_formula_sum 'Sr Ti O3 H'", "H is missing"),
        ("_chemical_formula_sum 'Ti O3'", "Sr is not in the formula"),
        ("_chemical_formula_sum 'Sr Ti O2'", "'Sr Ti O2', got Sr Ti O3"),
        ("_chemical_formula_sum 'Sr Ti0.98 O3'", "ratios"),
        ("_chemical_formula_sum 'Sr2 Ti2 O6'", "whole formula units"),
        ("_chemical_formula_structural 'Sr Ti O2'", "ratios"),
        ("_chemical_formula_sum 'Sr Ti O3'\n_cell_formula_units_Z 2", "Expected 2 formula units"),
        ("_chemical_formula_sum 'Sr-x Ti O3'", "a chemical formula"),
        ("_chemical_formula_sum 'Sr Ti O3'\n_cell_formula_units_Z -2", "positive number"),
        ("_cell_volume 119.1", "119.1 Å³, got 59.55"),
    ],
)
def test_declarations_that_differ_are_errors(declared: str, message: str):
    with pytest.raises(BadCrystalError, match=message):
        read_cif(cif(extra=f"{P1}{declared}\n"))


@pytest.mark.parametrize(
    "declared",
    [
        "_chemical_formula_sum 'O3 Sr Ti'\n_cell_formula_units_Z 1",
        "_chemical_formula_sum SrTiO3",
        "_chemical_formula_sum 'SR TI O3'",
        "_chemical_formula_sum ?\n_cell_formula_units_Z ?",
        "_chemical_formula_sum 'Sr0.333 Ti0.333 O1.0'\n_cell_formula_units_Z 3",
        "_chemical_formula_sum 'Sr2 Ti2 O6'\n_cell_formula_units_Z 0.5",
        "_chemical_formula_structural 'strontium titanate'",
        "_cell_volume 59.55(1)",
    ],
)
def test_declarations_that_agree(declared: str):
    assert read_cif(cif(extra=f"{P1}{declared}\n")).notices == ()


def test_formula_units_of_pymatgen_count_structural_formulas():
    sites = "Na1 Na 0 0 0\nNa2 Na .5 .5 0\nCl1 Cl .5 .5 .5\nCl2 Cl 0 0 .5\n"
    formula = f"{P1}_chemical_formula_sum 'Na2 Cl2'\n_cell_formula_units_Z"
    assert read_cif(cif(sites, f"{formula} 2\n_chemical_formula_structural NaCl\n"))
    assert read_cif(cif(sites, f"{formula} 1\n"))
    with pytest.raises(BadCrystalError, match="Expected 2 formula units"):
        read_cif(cif(sites, f"{formula} 2\n"))


def test_multiplicities_must_agree():
    extra = "_space_group_name_H-M_alt 'P m -3 m'\n"
    loop = f"{LOOP}_atom_site_symmetry_multiplicity\n"
    rows = "Sr1 Sr 0 0 0 1\nTi1 Ti .5 .5 .5 1\nO1 O .5 .5 0 3\n"
    assert len(read_cif(cif(rows, extra, loop)).structure) == 5
    # The orders of the site symmetries, which some programs write
    orders = "Sr1 Sr 0 0 0 48\nTi1 Ti .5 .5 .5 48\nO1 O .5 .5 0 16\n"
    assert len(read_cif(cif(orders, extra, loop)).structure) == 5
    with pytest.raises(BadCrystalError, match=r"Expected 6 images of site 'O1'.*got 3"):
        read_cif(cif(rows.replace("0 3", "0 6"), extra, loop))
    wyckoff = f"{LOOP}_atom_site_Wyckoff_symbol\n"
    with pytest.raises(BadCrystalError, match=r"Expected 4 images of site 'Sr1'.*got 1"):
        read_cif(cif("Sr1 Sr 0 0 0 4a\n", extra, wyckoff))


def test_blocks_without_a_crystal_are_ignored():
    metadata = "data_global\n_publ_author_name 'A. Author'\n"
    reflections = (
        f"data_reflections\n{CELL.format(a=4, angle=90)}"
        "loop_\n_refln_index_h\n_refln_index_k\n_refln_index_l\n1 0 0\n"
    )
    assert len(read_cif(f"{metadata}{cif()}{reflections}").structure) == 5
    for text in ("", metadata, "data_\n"):
        with pytest.raises(BadCrystalError, match="no block with a cell and sites"):
            read_cif(text)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (cif(), r"got 2 \(blocks 'x', 'second'\)\. Write"),
        (cif(PEROVSKITE.replace("Ti .5", "Ti ?")), "Block 'second' is not readable: .*'Ti1'"),
        (f"data_x\n{CELL.format(a=4, angle=90)}", "Block 'second' is not readable: .*positions"),
        (f"data_x\n{LOOP}{PEROVSKITE}", "Block 'second' is not readable: .*_cell_length_a"),
        (f"data_x\n{LOOP}{PEROVSKITE}1\n", "invalid syntax in block 'second'"),
        ("data_x\n_cell_length_a 1\n_cell_length_a 2\n", "second: duplicate tag"),
    ],
)
def test_a_second_crystal_is_an_error(second: str, message: str):
    with pytest.raises(BadCrystalError, match=message):
        read_cif(cif() + second.replace("data_x", "data_second"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (cif().replace("_cell_length_b 3.905\n", ""), "_cell_length_b, got none"),
        (cif().replace("_cell_length_b 3.905", "_cell_length_b 0"), "_cell_length_b, got 0"),
        (cif(angle="125"), "which no cell has"),
        (cif().replace("fract_", "Cartn_"), "Cartesian"),
        (cif(extra=f"{P1}_space_group_magn.name_BNS 'P 1'\n"), "a magnetic structure"),
        (cif(extra=f"{P1}_cell_modulation_dimension 1\n"), "a modulated structure"),
        (cif().replace("data_x", "no header"), "invalid syntax"),
        (cif(extra="_space_group_name_H-M_alt P 1\n"), "invalid syntax in block 'x', line"),
        (cif(""), "invalid syntax|no block|positions"),
    ],
)
def test_unreadable_crystals_are_refused(text: str, message: str):
    with pytest.raises(BadCrystalError, match=message):
        read_cif(text)


def test_tags_with_dots_and_unlooped_sites_are_read():
    text = cif("").replace(LOOP, "").replace("_cell_", "_cell.")
    text += "_atom_site.label Po1\n_atom_site.fract_x 0\n_atom_site.fract_y 0\n"
    text += "_atom_site.fract_z 0\n"
    assert symbols(text) == ["Po"]


@given(st.data())
def test_damaged_text_raises_no_other_error(data: st.DataObject):
    text = cif(extra=f"{P1}_chemical_formula_sum 'Sr Ti O3'\n_cell_formula_units_Z 1\n")
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, len(text)))
    inserted = data.draw(st.text(max_size=5) | st.sampled_from(["?", "'", "loop_", "data_b\n"]))
    with contextlib.suppress(BadCrystalError):
        read_cif(text[:start] + inserted + text[stop:])
