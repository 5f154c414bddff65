"""Kinds of splits: their names, as ``split_by`` accepts them."""

import re
from os import PathLike
from pathlib import Path

from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.formats.file_formats import without_compression

# The forms of `split_by`.
SPLIT_BY = ("origin", "composition", "prototype", "random:SEED", "FILE.csv", "FILE.json")

# The kinds that are given by their name alone.
_NAMES = ("origin", "composition", "prototype")
# The limit of seeds in scikit-learn and of numpy.random.seed.
_LARGEST_SEED = 2**32 - 1


def is_split_file(split_by: str | PathLike[str]) -> bool:
    """Return whether a kind of splits is the path of a split file, by its extension."""
    return without_compression(str(split_by)).lower().endswith((".csv", ".json"))


def canonical_split_by(split_by: str | PathLike[str]) -> str:
    """Return a kind of splits in the form that records contain, which is valid from any folder.

    Args:
        split_by: ``origin``, ``composition``, ``prototype``, ``random:SEED``, or the path of a
            split file, which need not exist.

    Returns:
        The name; ``random:SEED`` without leading zeros; or the absolute path.

    Raises:
        UnknownNameError: If there is no such kind.
        CrystalGymError: If the seed is missing, is not an integer or is out of range.
    """
    if is_split_file(split_by):
        return str(Path(split_by).expanduser().resolve())
    if split_by in _NAMES:
        return str(split_by)
    seed = split_seed(str(split_by))
    if seed is None:
        raise UnknownNameError("split_by", str(split_by), SPLIT_BY)
    return f"random:{seed}"


def split_seed(split_by: str) -> int | None:
    """Return the seed of ``random:SEED``, or ``None`` for another kind of splits.

    Raises:
        CrystalGymError: If the seed is missing, is not an integer or is out of range.
    """
    kind, _, seed = split_by.partition(":")
    if kind != "random":
        return None
    if not re.fullmatch("[0-9]{1,10}", seed) or int(seed) > _LARGEST_SEED:
        raise CrystalGymError(
            f"Expected split_by to be random:SEED with an integer seed from 0 to {_LARGEST_SEED}, "
            f"got {split_by!r}. Pass a seed, as in random:0."
        )
    return int(seed)
