"""Pretrained policies of the package, each with weights, a configuration and a model card.

The policy ``<collection>/<network>`` is in the folder of that name below ``weights``. The file
``checksums.json`` lists the SHA-256 of every file of each policy. The script
``tools/publish_policy.py`` adds policies.
"""

import json
from pathlib import Path

from crystal_gym.errors import DamagedFileError, UnknownNameError
from crystal_gym.utils.files import sha256

PACKAGE = Path(__file__).parent / "weights"
CHECKSUMS_FILE = "checksums.json"
CARD_FILE = "README.md"


def pretrained_policies(package: Path = PACKAGE) -> tuple[str, ...]:
    """Return the names of the pretrained policies, such as ``goldschmidt/egnn``.

    Args:
        package: The folder of the policies.

    Raises:
        DamagedFileError: If the list of checksums cannot be read.
    """
    return tuple(sorted(read_checksums(package)))


def pretrained_folder(name: str, package: Path = PACKAGE) -> Path:
    """Return the folder of a pretrained policy after verifying its files.

    Args:
        name: Name of the policy.
        package: The folder of the policies.

    Raises:
        UnknownNameError: If there is no policy with this name.
        DamagedFileError: If a file is missing, or its checksum differs.
    """
    checksums = read_checksums(package)
    if name not in checksums:
        raise UnknownNameError("pretrained policy", name, checksums)
    for file, expected in checksums[name].items():
        path = package / name / file
        if not path.is_file():
            raise DamagedFileError(f"{path} is missing. Install crystal-gym again.")
        found = sha256(path)
        if found != expected:
            raise DamagedFileError(
                f"Expected the SHA-256 {expected} of {path}, got {found}. Install crystal-gym "
                "again."
            )
    return package / name


def read_checksums(package: Path) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of each file by policy and file name, empty if there are no policies.

    Args:
        package: The folder of the policies.

    Raises:
        DamagedFileError: If the list cannot be read.
    """
    path = package / CHECKSUMS_FILE
    try:
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged: {error}. Install crystal-gym again.") from error
