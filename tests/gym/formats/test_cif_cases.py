"""Files that other readers read wrongly, and all files of CDVAE."""

import csv
import gzip
import io

import pytest

from crystal_gym.errors import BadCrystalError
from crystal_gym.formats.cif import read_cif
from crystal_gym.utils import settings


def data(name: str) -> bytes:
    """Return a file of the data folders; skip the test if it is not there."""
    found = [folder / name for folder in settings.data_folders() if (folder / name).is_file()]
    if not found:
        pytest.skip(f"no file {name}")
    return found[0].read_bytes()


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "formula"),
    [("bi_R", "Bi2"), ("ho1", "Li2 H2 O2"), ("occ9999", "Sr1 Ti1 O3")],
)
def test_crystals_are_right(name: str, formula: str):
    parsed = read_cif(data(f"cases/{name}.cif").decode())
    assert parsed.structure.formula == formula
    assert bool(parsed.notices) == (name == "occ9999")


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "message"), [("lioh_noH", "H is missing"), ("two_one_broken", "Block 'second'")]
)
def test_incomplete_files_are_refused(name: str, message: str):
    with pytest.raises(BadCrystalError, match=message):
        read_cif(data(f"cases/{name}.cif").decode())


@pytest.mark.real
@pytest.mark.parametrize("name", ["mp_20/mp_20_test.csv.gz", "perov_5/cdvae_val.csv.gz"])
def test_files_of_cdvae_agree_with_their_declarations(name: str):
    text = gzip.decompress(data(name)).decode()
    for row in list(csv.DictReader(io.StringIO(text)))[::100]:
        parsed = read_cif(row["cif"])
        assert parsed.notices == ()
        # Each line of a site of the cell ends with its occupancy.
        lines = [line for line in row["cif"].splitlines() if line.endswith("  1")]
        elements = [line.split()[0] for line in lines if line.split()[0].isalpha()]
        assert [str(site.specie) for site in parsed.structure] == elements
