"""MP-20: crystals of the Materials Project with up to 20 sites, selected and split by CDVAE.

Jain et al., APL Materials 1, 011002 (2013); Xie et al., ICLR 2022. Downloads are verified by the
ids of the files in CDVAE's repository. Local copies with the same crystals, in which some ids and
energies of train are missing, are accepted by their SHA-256.
"""

from crystal_gym.collections.cdvae_csv import collection_from_csv_files
from crystal_gym.collections.collection import SPLITS, CrystalCollection
from crystal_gym.utils.files import RemoteFile, fetch

DESCRIPTION = (
    "MP-20: crystals of the Materials Project with up to 20 sites, about 45,000, in CDVAE's "
    "selection and split."
)

MAX_SITES = 20

_CDVAE = (
    "https://raw.githubusercontent.com/txie-93/cdvae/"
    "f857f598d6f6cca5dc1ea0582d228f12dcc2c2ea/data/mp_20/"
)
# The id of each file in CDVAE's repository, and the SHA-256 of a copy with fewer labels.
_CONTENTS = {
    "train": (
        "b1c9d498565ac2fd8d075a51ff2ef5e51ba6c21f",
        "4a6033fe5fa563d874b567fc8dd44a94f9f30702ba7ff1b6a62682a094caa29e",
    ),
    "val": (
        "7efe4d7ebeb4f460ceaad35e5326c42111d9c9a1",
        "d65db02d936d3c1b7d33f047ac28bcb4804cf83814d6e181ff1b799bccc8acf5",
    ),
    "test": (
        "5dc643041df53f5ce4970a79930ad262b4f07acd",
        "84db652b0f06fa0992e24c63d17f47756cb8e2a5826be916332640ee9ee241b3",
    ),
}
FILES = {
    split: RemoteFile(
        name=f"mp_20_{split}.csv",
        url=f"{_CDVAE}{split}.csv",
        checksum=None,
        contents=_CONTENTS[split],
        aliases=(f"mp_20_{split}.csv.gz",),
        common_names=(f"{split}.csv", f"{split}.csv.gz"),
    )
    for split in SPLITS
}


def load(*, progress: bool = True) -> CrystalCollection:
    """Load MP-20 from a local copy, the cache or a download, with sites in geometric order.

    The labels are the numeric columns of CDVAE's files, including ``formation_energy_per_atom``
    and ``e_above_hull`` (eV/atom) and ``band_gap`` (eV); they are NaN where a copy lacks them.

    Args:
        progress: Show progress bars.

    Raises:
        DownloadError: If a file is missing and cannot be downloaded.
        DamagedFileError: If a file does not match its checksum.
    """
    return collection_from_csv_files(
        "mp-20",
        {split: fetch(file, "mp_20", progress=progress) for split, file in FILES.items()},
        max_sites=MAX_SITES,
        description=DESCRIPTION,
        progress=progress,
    )
