"""Errors and warnings of the package; each message gives the problem, its place and a remedy."""

import difflib
from collections.abc import Iterable
from typing import Self

import gymnasium as gym
import numpy as np


class CrystalGymError(ValueError):
    """Raised when an input is invalid; the command line exits with code 2."""

    def __reduce__(self) -> tuple:
        """Pickle by the message alone, so that a worker process can return every subclass."""
        return _restore, (type(self), str(self))


def _restore(kind: type[CrystalGymError], message: str) -> CrystalGymError:
    return kind.__new__(kind, message)


class UnknownNameError(CrystalGymError):
    """Raised when a name is not in its registry."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        super().__init__(f"Unknown {kind} {name!r}.{_suggest(name, known)}")


class UnknownArgumentError(CrystalGymError, TypeError):
    """Raised when an environment receives an unknown keyword argument.

    It is a ``TypeError``, as for every Python function: TorchRL tries an argument of its own and
    leaves it out after this error.
    """

    def __init__(self, message: str) -> None:
        # gymnasium.make raises a TypeError of an environment again, with a longer message.
        super().__init__(message)

    @classmethod
    def of(cls, function: str, name: str, known: Iterable[str]) -> Self:
        """Return the error for an argument of a function, with the known arguments."""
        return cls(
            f"{function} got an unexpected keyword argument {name!r}.{_suggest(name, known)}"
        )


def _suggest(name: object, known: Iterable[str]) -> str:
    """Return the known names, the nearest one first, as sentences that follow another."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {', '.join(known)}."


class UnknownCrystalError(CrystalGymError):
    """Raised when a collection has no crystal with the given row or id."""

    def __init__(self, crystal: object, collection: str, ids: np.ndarray) -> None:
        super().__init__(
            f"No crystal {crystal!r} in {collection!r}: rows run from 0 to {len(ids) - 1} (int), "
            f"and ids are strings such as {str(ids[0])!r}."
        )


class BadCrystalError(CrystalGymError):
    """Raised when a crystal has no valid skeleton: disorder, overlapping sites, too many sites."""


class SymmetryError(CrystalGymError):
    """Raised when no space group of a skeleton is found."""


class MissingDataError(CrystalGymError):
    """Raised when required data, such as a file or a label, is missing."""


class DownloadError(MissingDataError):
    """Raised when a required file is missing and cannot be downloaded."""


class CollectionMismatchError(CrystalGymError):
    """Raised when something was built from other crystals than the given collection has."""


class DamagedFileError(CrystalGymError):
    """Raised when a file is unreadable or its content does not match its checksum or format."""


class SubmissionError(CrystalGymError):
    """Raised when a submission to the leaderboard is invalid; one line for each problem."""


class StorageError(CrystalGymError):
    """Raised when a file cannot be written: a read-only folder, a full disk, no folder."""


class TimeLimitError(CrystalGymError):
    """Raised when a time limit ends a run early; its checkpoint is saved before."""


class ClusterError(CrystalGymError):
    """Raised when a Dask cluster does not answer, fails, or has other versions of the packages."""


class ResetNeededError(CrystalGymError, gym.error.ResetNeeded):
    """Raised when ``step`` or ``render`` is called without a running episode."""


class InvalidActionError(CrystalGymError, gym.error.InvalidAction):
    """Raised when an action is not the index of an element in the vocabulary."""


class RewardError(CrystalGymError):
    """Raised when a reward fails on a crystal; the message gives the crystal."""


class CrystalGymWarning(UserWarning):
    """Issued when the package continues despite a problem; base class of its warnings."""


class CollectionMismatchWarning(CrystalGymWarning):
    """Issued when something built from other crystals is replaced or used on purpose."""


class TargetRangeWarning(CrystalGymWarning):
    """Issued when a requested value of a label is outside the range of the known labels."""


class ParserWarning(CrystalGymWarning):
    """Issued when a reader changes crystals, such as by merging sites, or leaves crystals out."""


class IgnoredFilesWarning(CrystalGymWarning):
    """Issued when files of a folder are not read, because their formats are others."""


class SiteOrderWarning(CrystalGymWarning):
    """Issued when the given order of sites is used, because their positions do not decide."""


class SymmetryWarning(CrystalGymWarning):
    """Issued when skeletons count as asymmetric because no space group was found."""


class ClusterWarning(CrystalGymWarning):
    """Issued when a Dask cluster has no workers yet, so that a computation waits for them."""
