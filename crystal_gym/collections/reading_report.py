"""Warnings of what was changed or left out when the crystals of a collection were read."""

import re
import warnings
from collections.abc import Sequence

from crystal_gym.errors import IgnoredFilesWarning, ParserWarning

# Number of kinds of problems, and of files, that a warning lists.
_MOST_SHOWN = 10
# Parts in which texts of one kind differ: quoted names and numbers.
_VARIABLE = re.compile(r"'[^']*'|\d+")


def warn_of_changes(changes: Sequence[str], places: Sequence[str], n_crystals: int) -> None:
    """Issue one ``ParserWarning`` if the readers changed crystals.

    Args:
        changes: The changes.
        places: The place of each change.
        n_crystals: Number of all crystals.
    """
    if changes:
        _warn(
            f"The readers changed {len(set(places)):,} of {n_crystals:,} crystals. Check whether "
            "their structures are correct.",
            changes,
            places,
        )


def warn_of_exclusions(excluded: Sequence[str], n_crystals: int) -> None:
    """Issue one ``ParserWarning`` if crystals were left out.

    Args:
        excluded: Place and reason of each crystal that was left out, separated by ``": "``.
        n_crystals: Number of all crystals.
    """
    if excluded:
        places, _, reasons = zip(*(text.partition(": ") for text in excluded), strict=True)
        _warn(
            f"{len(excluded):,} of {n_crystals:,} crystals cannot be read and are left out. The "
            "attribute `excluded` of the collection lists them.",
            reasons,
            places,
        )


def warn_of_ignored_files(folder: object, names: Sequence[str]) -> None:
    """Issue one ``IgnoredFilesWarning`` if files of a folder are not read."""
    if names:
        more = f" and {len(names) - _MOST_SHOWN:,} more" if len(names) > _MOST_SHOWN else ""
        warnings.warn(
            f"{len(names):,} {'file' if len(names) == 1 else 'files'} in {folder} are not read, "
            f"because their names are those of other formats: {', '.join(names[:_MOST_SHOWN])}"
            f"{more}.",
            IgnoredFilesWarning,
            stacklevel=4,
        )


def _warn(summary: str, problems: Sequence[str], places: Sequence[str]) -> None:
    """Issue one warning with the number of crystals and the first place of each kind of problem."""
    kinds: dict[str, dict[str, str]] = {}
    for problem, place in zip(problems, places, strict=True):
        kinds.setdefault(_VARIABLE.sub("0", problem), {}).setdefault(place, problem)
    lines = [
        f"{len(found):,} {'crystal' if len(found) == 1 else 'crystals'}, first "
        + ": ".join(next(iter(found.items())))
        for found in sorted(kinds.values(), key=len, reverse=True)
    ]
    if len(lines) > _MOST_SHOWN:
        lines[_MOST_SHOWN:] = [f"{len(lines) - _MOST_SHOWN:,} other kinds of problems"]
    warnings.warn(summary + "\n  " + "\n  ".join(lines), ParserWarning, stacklevel=4)
