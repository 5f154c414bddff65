"""Counts of finished crystals, the memory of rewards that depend on earlier episodes."""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crystal_gym.collections.known_crystals import reduced_composition
from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import DamagedFileError, UnknownNameError
from crystal_gym.utils.files import atomic_write

# Properties by which crystals are counted.
COUNTED_BY = ("composition", "filling")


class VisitCounts:
    """How often crystals of each composition or filling have been finished.

    The counts depend on the finished crystals only, not on the size of the batches in which they
    are added.

    Args:
        by: ``composition``: the elements and their amounts, divided by a common factor;
            ``filling``: the elements on the sites, in the order of the sites, on any skeleton.

    Attributes:
        by: The argument.

    Raises:
        UnknownNameError: If ``by`` is another value.
    """

    def __init__(self, by: str = "composition") -> None:
        if by not in COUNTED_BY:
            raise UnknownNameError("property by which crystals are counted", by, COUNTED_BY)
        self.by = by
        self._initial: dict[bytes, int] = {}
        self._counts: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Return the number of distinct compositions or fillings, the known ones included."""
        return len(self._counts)

    def start(self, atomic_numbers: np.ndarray | None = None, count: int = 1) -> None:
        """Start with the same count for each known crystal.

        Args:
            atomic_numbers: The known crystals, int (C, N), padded with 0 (default: none).
            count: Count of each of their compositions or fillings.
        """
        known = () if atomic_numbers is None else self._keys(atomic_numbers)
        self._initial = dict.fromkeys(known, count)
        self.reset()

    def reset(self) -> None:
        """Return to the counts of the last ``start``."""
        self._counts = dict(self._initial)

    def add(self, table: EpisodeTable, state: EpisodeState) -> np.ndarray:
        """Count finished crystals.

        Args:
            table: The crystals.
            state: A batch of k finished episodes.

        Returns:
            The count of each crystal's composition or filling, the crystal itself and those before
            it in the batch included, int64 (k,).
        """
        counts = np.empty(len(state.elements), np.int64)
        for i, key in enumerate(self._keys(table.vocabulary.decode(state.elements))):
            counts[i] = self._counts[key] = self._counts.get(key, 0) + 1
        return counts

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the counts as arrays: ``keys``, str (K,), sorted, and ``counts``, int64 (K,)."""
        items = sorted(self._counts.items())
        return {
            "keys": np.array([key.hex() for key, _ in items], dtype=np.str_),
            "counts": np.array([count for _, count in items], dtype=np.int64),
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Set the counts to those of ``arrays``.

        Raises:
            ValueError: If the arrays are not those of counts.
        """
        keys, counts = arrays["keys"].tolist(), arrays["counts"].tolist()
        self._counts = {bytes.fromhex(key): int(n) for key, n in zip(keys, counts, strict=True)}

    def _keys(self, atomic_numbers: np.ndarray) -> Iterable[bytes]:
        for numbers in atomic_numbers:
            sites = numbers[numbers > 0]
            key = sites if self.by == "filling" else np.array(reduced_composition(sites))
            yield key.astype(np.int16).tobytes()


def known_crystals(table: EpisodeTable, split: str | None) -> np.ndarray | None:
    """Return the crystals of a split of the collection, atomic numbers (C, N); ``None`` for none.

    Raises:
        UnknownNameError: If there is no such split.
    """
    if split is None:
        return None
    collection = table.collection
    return collection.atomic_numbers[collection.in_split(split)]


def save_counts(path: Path, memories: Mapping[str, VisitCounts]) -> None:
    """Write the memories of a reward to an ``.npz`` file, which is complete or absent.

    Args:
        path: The file.
        memories: ``reward.memories()``.

    Raises:
        StorageError: If the file cannot be written.
    """
    arrays: dict[str, Any] = {
        f"{name}/{key}": values
        for name, counts in memories.items()
        for key, values in counts.arrays().items()
    }
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_counts(path: Path, memories: Mapping[str, VisitCounts]) -> None:
    """Set the memories of a reward to those of a file of ``save_counts``.

    Raises:
        DamagedFileError: If the file is missing or damaged, or contains other memories.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            for name, counts in memories.items():
                counts.restore({key: file[f"{name}/{key}"] for key in ("keys", "counts")})
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise DamagedFileError(
            f"Expected counts of the crystals that were finished before in {path}, got "
            f"{type(error).__name__}: {error}. Delete the run's folder to start again."
        ) from error
