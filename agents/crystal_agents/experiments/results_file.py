"""Results as a JSON list, one record a run, to which finished runs are appended."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.utils.files import atomic_write

RecordT = TypeVar("RecordT")


class OfCrystals(Protocol):
    """A record that tells its crystals."""

    @property
    def collection(self) -> str:
        """Their name."""
        ...

    @property
    def collection_sha256(self) -> str:
        """Their fingerprint."""
        ...


def load_records(
    path: Path, parse: Callable[[Mapping[str, Any]], RecordT], *, without: str
) -> list[RecordT]:
    """All records, in the order of their runs; none where there is no file yet.

    Args:
        path: of the file.
        parse: from an entry, as ``dataclasses.asdict`` gave it, to a record; ``TypeError`` or
            alike where it is none.
        without: what follows where a damaged file is moved away, for the reader.

    Raises:
        DamagedFileError: the file is not one that ``save_records`` wrote.
    """
    if not path.is_file():
        return []
    try:
        return _parsed(path.read_text(), parse)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedFileError(
            f"{path} is damaged ({type(error).__name__}: {error}). Mend it, or move it away: "
            f"{without}."
        ) from error


def _parsed(text: str, parse: Callable[[Mapping[str, Any]], RecordT]) -> list[RecordT]:
    entries = json.loads(text)
    if not isinstance(entries, list):
        raise TypeError("not a list of runs")
    return [parse(entry) for entry in entries]


def save_records(path: Path, records: Sequence[Any]) -> None:
    """Write records, instances of dataclasses, a line each: the whole file or nothing.

    Raises:
        StorageError: it cannot be written.
    """
    lines = [json.dumps(dataclasses.asdict(record)) for record in records]
    with atomic_write(path) as beside:
        beside.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def require_same_crystals(path: Path, before: Iterable[OfCrystals], collection_sha256: str) -> None:
    """Results on different crystals are never brought together.

    Raises:
        CrystalGymError: the records are of other crystals.
    """
    for record in before:
        if record.collection_sha256 != collection_sha256:
            raise CrystalGymError(
                f"{path} holds results on other crystals ({record.collection}, SHA-256 "
                f"{record.collection_sha256[:12]}…; asked for: {collection_sha256[:12]}…). Choose "
                "another folder."
            )
