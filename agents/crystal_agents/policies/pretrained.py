"""Trained policies that come with the package: weights, description and card of each.

A policy ``<collection>/<network>`` stands in the folder of this name. ``checksums.json`` lists them
with the SHA-256 of their files; ``tools.publish_policy`` puts them here.
"""

import json
from pathlib import Path

from crystal_gym.errors import DamagedFileError, UnknownNameError
from crystal_gym.utils.files import sha256

PACKAGE = Path(__file__).parent / "weights"
CHECKSUMS_FILE = "checksums.json"
CARD_FILE = "README.md"


def pretrained_policies(package: Path = PACKAGE) -> tuple[str, ...]:
    """Names of the policies that come with the package, such as ``goldschmidt/egnn``."""
    return tuple(sorted(read_checksums(package)))


def pretrained_folder(name: str, package: Path = PACKAGE) -> Path:
    """The folder of a policy that comes with the package, its files verified.

    Raises:
        UnknownNameError: there is no such policy.
        DamagedFileError: a file is not the one that was shipped.
    """
    checksums = read_checksums(package)
    if name not in checksums:
        raise UnknownNameError("shipped policy", name, checksums)
    for file, checksum in checksums[name].items():
        path = package / name / file
        if not path.is_file() or sha256(path) != checksum:
            raise DamagedFileError(
                f"{path} is {'altered or damaged' if path.is_file() else 'missing'}: "
                "install crystal-gym again."
            )
    return package / name


def read_checksums(package: Path) -> dict[str, dict[str, str]]:
    """By policy the SHA-256 of each file; none where the package has no policy yet."""
    path = package / CHECKSUMS_FILE
    try:
        return json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged: install crystal-gym again.") from error
