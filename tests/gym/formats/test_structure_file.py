"""Test readers of POSCAR, extended XYZ, JSON and objects, and encodings of their files."""

import bz2
import gzip
import io
import json
import lzma

import ase.io
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import IStructure, Lattice, Molecule, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar
from strategies import cells

from crystal_gym.errors import BadCrystalError, CrystalGymError, DamagedFileError
from crystal_gym.formats import read_structure
from crystal_gym.formats.objects import object_id, object_labels

SALT = Structure(
    Lattice.tetragonal(4, 5), ["Na", "Cl", "Na"], [[0.6, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0]]
)
DUMMIES = Structure(Lattice.cubic(4), ["X"] * 2, [[0, 0, 0], [0.5, 0.5, 0.5]])


def extxyz(structure):
    out = io.StringIO()
    ase.io.write(out, AseAtomsAdaptor.get_atoms(structure, msonable=False), format="extxyz")
    return out.getvalue()


WRITERS = {
    "a.cif": lambda s: str(CifWriter(s, significant_figures=10)),
    "POSCAR": lambda s: Poscar(s).get_str(significant_figures=12),
    "a.vasp": lambda s: Poscar(s).get_str(direct=False, significant_figures=12),
    "CONTCAR_relaxed": lambda s: Poscar(
        s, selective_dynamics=[[True, False, True]] * len(s)
    ).get_str(significant_figures=12),
    "a.extxyz": extxyz,
    "a.xyz": extxyz,
    "a.json": lambda s: json.dumps(s.as_dict()),
    "doc.json": lambda s: json.dumps({"material_id": "mp-1", "structure": s.as_dict()}),
}
COMPRESSIONS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("formats")


def assert_same_crystal(parsed, expected):
    assert [site.species_string for site in parsed] == [site.species_string for site in expected]
    assert np.allclose(parsed.lattice.parameters, expected.lattice.parameters, atol=1e-6)
    difference = parsed.frac_coords - expected.frac_coords
    assert np.abs(difference - np.round(difference)).max() < 1e-6


@settings(max_examples=5)
@given(cell=cells(), data=st.data())
@pytest.mark.parametrize("name", WRITERS)
def test_crystals_survive_every_format_and_compression(folder, name, cell, data):
    lattice, coords = cell
    species = data.draw(
        st.lists(
            st.sampled_from(["Na", "Cl", "O", "Ti"]), min_size=len(coords), max_size=len(coords)
        )
    )
    expected = Structure(Lattice.from_parameters(*Lattice(lattice).parameters), species, coords)
    content = WRITERS[name](expected).encode()
    for extension, compress in COMPRESSIONS.items():
        path = folder / f"{name}{extension}"
        path.write_bytes(compress(content))
        parsed = read_structure(str(path))
        assert parsed.notices == ()
        assert_same_crystal(parsed.structure, expected)


@given(cell=cells(max_sites=6), cartesian=st.booleans(), volume=st.booleans())
@settings(max_examples=10)
def test_scale_factors_and_volumes_of_a_poscar(folder, cell, cartesian, volume):
    lattice, coords = cell
    scale = 1.7
    sites = coords @ lattice if cartesian else coords
    factor = -abs(np.linalg.det(lattice)) * scale**3 if volume else scale
    lines = [
        "comment",
        repr(float(factor)),
        *(" ".join(map(repr, row)) for row in lattice.tolist()),
    ]
    lines += ["Na", str(len(sites)), "Cartesian" if cartesian else "Direct"]
    lines += [" ".join(map(repr, row)) for row in sites.tolist()]
    (folder / "POSCAR_scaled").write_text("\n".join(lines) + "\n")
    parsed = read_structure(folder / "POSCAR_scaled").structure
    assert np.allclose(parsed.lattice.matrix, scale * lattice)
    assert np.allclose(parsed.cart_coords, coords @ (scale * lattice))


POSCAR = """cubic
1.0
4 0 0
0 4 0
0 0 4
Na Cl
1 1
Direct
0 0 0
0.5 0.5 0.5
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Na Cl\n", "", "The elements are unknown: .* VASP 4"),
        ("1 1\n", "1\n", "one number of sites for each of the 2 symbols"),
        ("1 1\n", "1 2\n", "Expected a readable POSCAR"),
        ("0.5 0.5 0.5\n", "0.5 0.5 0.5\n0.25 0.25 0.25\n", "got more coordinates"),
        ("0 0 0\n0.5", "0 0 0 K\n0.5", "Site 0 is Na by the numbers of sites and K"),
        ("1.0\n", "0\n", "scale factor other than 0"),
        ("1.0\n", "1.0 1.0 2.0\n", "one scale factor in line 2"),
        ("0.5 0.5 0.5\n", "0.5 0.5\n", "Expected a readable POSCAR"),
        (POSCAR, "text\n", "at least 8 lines"),
    ],
)
def test_contradictory_poscars_are_rejected(tmp_path, old, new, message):
    path = tmp_path / "POSCAR"
    path.write_text(POSCAR)
    assert len(read_structure(path).structure) == 2
    path.write_text(POSCAR.replace(old, new))
    with pytest.raises(BadCrystalError, match=rf"POSCAR: .*{message}"):
        read_structure(path)


def test_symbols_behind_the_coordinates_of_a_vasp_4_poscar_are_read(tmp_path):
    text = POSCAR.replace("Na Cl\n", "").replace("0 0 0\n0.5 0.5 0.5", "0 0 0 K\n0.5 0.5 0.5 Br")
    (tmp_path / "POSCAR").write_text(text)
    assert [s.species_string for s in read_structure(tmp_path / "POSCAR").structure] == ["K", "Br"]


FRAME = '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nNa 0 0 0\nCl 2 2 2\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xyz", "2\nmolecule\nNa 0 0 0\nCl 2 2 2\n", "Lattice in the comment line of frame 0"),
        ("a.xyz", FRAME.replace("2\nL", "3\nL", 1), "Expected 3 sites .* got fewer"),
        ("a.xyz", FRAME.replace("2\nL", "1\nL", 1), "Expected the number of sites of a frame"),
        ("a.xyz", f"{FRAME}\n\n{FRAME}", "a file with one crystal, got 2"),
        ("a.xyz", FRAME.replace("Prop", 'pbc="T T F" Prop'), "conditions T T F"),
        ("a.xyz", FRAME.replace("Na", "Qq"), "Expected a readable extended XYZ"),
        ("a.xyz", "", "at least one frame, got none"),
        ("a.json", "{", "Expected valid JSON"),
        ("a.json", "[]", "got an empty list"),
        ("a.json", '{"a": 1}', r"the content is another dict with the keys a\. .*POSCAR"),
        ("a.json", '[{"lattice": 1, "sites": []}]', "a lattice and a list of sites"),
        ("a.json", json.dumps([SALT.as_dict()] * 2), "a file with one crystal, got 2"),
        ("a.json", json.dumps(Molecule(["O"], [[0, 0, 0]]).as_dict()), "another dict"),
        ("a.json", json.dumps(SALT.as_dict()).replace('"abc"', '"xyzw"'), "coordinates abc"),
        ("a.mcif", "data_", "a magnetic structure.*CIF .*POSCAR"),
        ("a.pdb.gz", "text", "a supported format, got 'a.pdb.gz'.*extended XYZ"),
        ("a.txt", "text", "Supported formats are CIF"),
        ("POSCARfile.png", "text", "Supported formats are CIF"),
        ("a.cif", "no cif", "a.cif: Expected"),
    ],
)
def test_bad_files_are_rejected_with_a_reason(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(BadCrystalError, match=message):
        read_structure(path)


CIF = str(CifWriter(SALT))


@pytest.mark.parametrize(
    "content",
    [
        CIF.encode("utf-8-sig"),
        CIF.encode("utf-16"),
        CIF.encode("utf-32"),
        f"# André\n{CIF}".encode("latin-1"),
        f"# etc\u2026 y\n{CIF}".encode("cp1252"),
        f"# a\x85b\x0cc\u2028d\n{CIF}".encode(),
        CIF.replace("\n", "\r\n").encode(),
        CIF.replace("\n", "\r").encode(),
        gzip.compress(CIF.encode("utf-8-sig")),
    ],
)
def test_encodings_and_line_ends(tmp_path, content):
    (tmp_path / "a.cif").write_bytes(content)
    parsed = read_structure(tmp_path / "a.cif").structure
    assert_same_crystal(parsed, SALT)


def test_unreadable_files_are_damaged(tmp_path):
    packed = gzip.compress(CIF.encode())
    for content in (packed[:-9], b"no gzip", packed[:50] + b"?" + packed[51:]):
        (tmp_path / "a.cif.gz").write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"a\.cif\.gz cannot be read"):
            read_structure(tmp_path / "a.cif.gz")
    (tmp_path / "b.cif").write_bytes(CIF.encode("utf-16-le"))
    with pytest.raises(DamagedFileError, match="binary data or UTF-16"):
        read_structure(tmp_path / "b.cif")
    with pytest.raises(DamagedFileError, match=r"absent\.cif cannot be read"):
        read_structure(tmp_path / "absent.cif")
    with pytest.raises(CrystalGymError, match="Expected the path of a file, got a text"):
        read_structure(CIF)


def test_files_that_expand_too_much_are_rejected(tmp_path):
    (tmp_path / "a.cif.gz").write_bytes(gzip.compress(bytes(2**26 + 1), 1))
    with pytest.raises(DamagedFileError, match="at most 67,108,864 bytes after decompression"):
        read_structure(tmp_path / "a.cif.gz")


def test_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "POSCAR").write_text(POSCAR)
    assert len(read_structure("~/POSCAR").structure) == 2


class Identifier:
    """An identifier that is not a string."""

    def __str__(self):
        return "mp-7"


class Document:
    """A document whose field `volume` was not requested."""

    def __init__(self, structure):
        self.structure = structure
        self.material_id = Identifier()
        self.band_gap, self.is_metal, self.nsites = np.float32(1.5), False, 3

    @property
    def volume(self):
        raise AttributeError("not requested")


@pytest.mark.parametrize(
    "source",
    [
        SALT,
        IStructure.from_sites(SALT.sites),
        SALT.as_dict(),
        AseAtomsAdaptor.get_atoms(SALT, msonable=False),
        Document(SALT),
        Document(SALT.as_dict()),
        {"structure": SALT.as_dict(), "material_id": "mp-1"},
    ],
    ids=lambda source: type(source).__name__,
)
def test_objects_are_read(source):
    assert_same_crystal(read_structure(source).structure, SALT)


@pytest.mark.parametrize("convert", [lambda s: s, lambda s: s.as_dict()])
def test_dummy_sites_are_read(convert):
    assert len(read_structure(convert(DUMMIES)).structure) == 2


def test_documents_have_ids_and_labels():
    document = {"material_id": "mp-1", "structure": SALT, "band_gap": 1, "stable": True, "x": None}
    assert object_id(document) == "mp-1"
    assert object_id(SALT) is object_id({"structure": SALT}) is None
    assert object_labels([document, SALT]) == [{"band_gap": 1.0}, {}]
    assert object_id(Document(SALT)) == "mp-7"
    assert object_labels([Document(SALT)]) == [{"band_gap": 1.5, "nsites": 3.0}]
    mixed = {"structure": SALT, "band_gap": "wide", "huge": 10**400}
    assert object_labels([document, mixed]) == [{}, {}]


def test_almost_full_sites_are_full_with_a_notice():
    nearly = Structure(Lattice.cubic(4), [{"Na": 0.9995}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    parsed = read_structure(nearly)
    assert parsed.structure.is_ordered
    assert parsed.notices == ("Occupancy 0.9995 of site 0 counts as 1",)
    assert not nearly.is_ordered


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Atoms("NaCl", positions=[[0, 0, 0], [2, 2, 2]]), "three cell vectors, got 0"),
        (Atoms("Na", cell=[4, 4, 4], pbc=[True, True, False]), "conditions T T F"),
        (
            Atoms("Na", cell=[4, 4, 4], pbc=True, info={"occupancy": {"0": {"Na": 0.5, "K": 0.5}}}),
            "disordered or partly occupied",
        ),
        (Structure(Lattice(np.eye(3) * 4, pbc=(True, True, False)), ["Na"], [[0] * 3]), "T T F"),
        (Molecule(["O"], [[0, 0, 0]]), "Expected a crystal, got"),
        (None, "Expected a crystal, got None .* Use pymatgen Structure"),
        ({"a": 1}, "a dictionary with the keys a"),
        ({"structure": None}, "Expected a crystal in the entry structure, got None"),
    ],
)
def test_bad_objects_are_rejected_with_a_reason(source, message):
    with pytest.raises(CrystalGymError, match=message):
        read_structure(source)


def test_classes_named_in_a_dictionary_are_not_imported():
    data = SALT.as_dict()
    data["properties"] = {"a": {"@module": "absent", "@class": "Absent"}}
    data["sites"][0]["properties"] = {"a": {"@module": "this", "@class": "s"}}
    assert_same_crystal(read_structure(data).structure, SALT)


def test_deuterium_is_read_as_hydrogen_with_a_notice():
    lattice = Lattice.cubic(4)
    parsed = read_structure(Structure(lattice, ["Li", "D"], [[0, 0, 0], [0.5, 0.5, 0.5]]))
    assert parsed.structure.composition.formula == "Li1 H1"
    assert parsed.notices == ("deuterium or tritium was read as hydrogen (sites: 1)",)
