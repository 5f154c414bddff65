"""MP-20: crystals of the Materials Project with up to 20 sites, selected and split by CDVAE.

Jain et al., APL Materials 1, 011002 (2013); Xie et al., ICLR 2022. The publisher provides no
SHA-256 of these files. The first download is trusted, and its checksum is recorded for later uses.
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
FILES = {
    split: RemoteFile(
        name=f"mp_20_{split}.csv",
        url=f"{_CDVAE}{split}.csv",
        checksum=None,
        aliases=(f"mp_20_{split}.csv.gz",),
        common_names=(f"{split}.csv", f"{split}.csv.gz"),
    )
    for split in SPLITS
}


def load(*, progress: bool = True) -> CrystalCollection:
    """Load MP-20 from a local copy, the cache or a download, with sites in geometric order.

    The labels are the numeric columns of CDVAE's files, including ``formation_energy_per_atom``
    and ``e_above_hull`` (eV/atom) and ``band_gap`` (eV).

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
