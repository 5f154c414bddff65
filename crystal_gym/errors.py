"""Errors that a user can mend: each message says what was wrong, where, and what to do."""

import difflib
from collections.abc import Iterable

import gymnasium as gym
import numpy as np


class CrystalGymError(ValueError):
    """Bad input; the command line turns it into exit code 2."""

    def __reduce__(self) -> tuple:
        """By message alone, so that every subclass comes back from a worker process."""
        return _restore, (type(self), str(self))


def _restore(kind: type[CrystalGymError], message: str) -> CrystalGymError:
    return kind.__new__(kind, message)


class UnknownNameError(CrystalGymError):
    """A name that no registry knows."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(known)}.")


class BadCrystalError(CrystalGymError):
    """A crystal that cannot become a skeleton: no sites, disorder, overlapping sites, too large."""


class MissingDataError(CrystalGymError):
    """A file that is neither at hand nor to be had."""


class DownloadError(MissingDataError):
    """A file that is not at hand and cannot be fetched."""


class DamagedFileError(CrystalGymError):
    """A file whose content is not what its checksum or format promises."""


class StorageError(CrystalGymError):
    """A place that cannot be written: read-only, full, or not a folder."""


class ResetNeededError(CrystalGymError, gym.error.ResetNeeded):
    """A step or a picture is asked for where there is no episode under way."""


class InvalidActionError(CrystalGymError, gym.error.InvalidAction):
    """An action that is no element of the vocabulary."""


class RewardError(CrystalGymError):
    """A reward that fails on a crystal, which the message names."""


class UnknownCrystalError(CrystalGymError):
    """A crystal that is not in the collection."""

    def __init__(self, crystal: object, collection: str, ids: np.ndarray) -> None:
        super().__init__(
            f"No crystal {crystal!r} in {collection!r}; rows run from 0 to {len(ids) - 1}, ids (as "
            f"str) are like {str(ids[0])!r}."
        )
