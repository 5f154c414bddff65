"""Results of an experiment: a JSON list with one record per finished run."""

import abc
import dataclasses
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from crystal_gym.errors import CollectionMismatchError, DamagedFileError
from crystal_gym.utils.files import atomic_write
from crystal_gym.utils.identity import describe_crystals

# Raised by a parser for an entry with missing, unknown or malformed fields.
_PARSE_ERRORS = (ValueError, TypeError, KeyError, AttributeError)


@dataclass(frozen=True, kw_only=True)
class RunRecord(abc.ABC):
    """Provenance of a finished run; each experiment adds the fields of its own runs.

    Attributes:
        collection: Name or path of the collection.
        collection_sha256: Fingerprint of the collection.
        seconds: Duration of the run.
        hardware: GPU, or processor and number of threads.
        versions: Versions of the software by package.
        date: Time at which the run ended, in ISO 8601 format.
    """

    collection: str
    collection_sha256: str
    seconds: float
    hardware: str
    versions: dict[str, str]
    date: str

    @property
    @abc.abstractmethod
    def key(self) -> Hashable:
        """Identity of the run; a results file has at most one record for each key."""

    @classmethod
    @abc.abstractmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """Restore a record from the dictionary that ``dataclasses.asdict`` returned.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: If the entry is not such a dictionary.
        """


RecordT = TypeVar("RecordT", bound=RunRecord)


@dataclass(frozen=True)
class ResultsFile(Generic[RecordT]):
    """A JSON file of records, to which finished runs are appended.

    Attributes:
        path: Path of the file, which need not exist yet.
        record_type: Class of the records.
        after_removal: Effect of a rerun once a damaged file is moved away, for the error message.
    """

    path: Path
    record_type: type[RecordT]
    after_removal: str

    def load(self) -> list[RecordT]:
        """Return all records in the order of their runs, or an empty list if there is no file.

        Raises:
            DamagedFileError: If the file cannot be read or parsed.
        """
        return load_records(self.path, self.record_type, after_removal=self.after_removal)

    def append(self, record: RecordT) -> None:
        """Append a record. The file is replaced as a whole, or stays unchanged after an error.

        Raises:
            CollectionMismatchError: If the file contains results on other crystals.
            DamagedFileError: If the file is damaged.
            StorageError: If the file cannot be written.
        """
        # Read again at this point: another process may have appended its runs meanwhile.
        records = self.load()
        require_same_crystals(self.path, records, record.collection, record.collection_sha256)
        save_records(self.path, [*records, record])


def load_records(path: Path, record_type: type[RecordT], *, after_removal: str) -> list[RecordT]:
    """Return all records of a file in the order of their runs.

    Args:
        path: Path of the file. A missing file has no records.
        record_type: Class of the records.
        after_removal: Effect of a rerun once the file is moved away, for the error message.

    Raises:
        DamagedFileError: If the file was not written by ``save_records``; the message names the
            entry.
    """
    if not path.is_file():
        return []
    advice = f"Repair the file or move it away: {after_removal}."
    try:
        entries = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedFileError(
            f"Expected a JSON list of runs in {path}, got a damaged file "
            f"({type(error).__name__}: {error}). {advice}"
        ) from error
    if not isinstance(entries, list):
        raise DamagedFileError(
            f"Expected a JSON list of runs in {path}, got {type(entries).__name__}. {advice}"
        )
    records = []
    for number, entry in enumerate(entries, 1):
        try:
            records.append(record_type.from_json(entry))
        except _PARSE_ERRORS as error:
            raise DamagedFileError(
                f"Expected a {record_type.__name__} in entry {number} of {path}, got damaged "
                f"content ({type(error).__name__}: {error}). {advice}"
            ) from error
    return records


def save_records(path: Path, records: Sequence[RunRecord]) -> None:
    """Write records as a JSON list, one line each; the file is complete or unchanged.

    Raises:
        StorageError: If the file cannot be written.
    """
    lines = [json.dumps(dataclasses.asdict(record)) for record in records]
    with atomic_write(path) as temporary:
        temporary.write_text("[\n" + ",\n".join(lines) + "\n]\n", "utf-8")


def require_same_crystals(
    path: Path, records: Iterable[RunRecord], collection: str, collection_sha256: str
) -> None:
    """Verify that records are results on the crystals with this fingerprint.

    Args:
        path: File of the records, for the message.
        records: The records.
        collection: Name or path of the collection, for the message.
        collection_sha256: Fingerprint of the collection.

    Raises:
        CollectionMismatchError: If a record is a result on other crystals.
    """
    for record in records:
        if record.collection_sha256 != collection_sha256:
            raise CollectionMismatchError(
                f"Expected results on {describe_crystals(collection, collection_sha256)} in "
                f"{path}, got results on other crystals: "
                f"{describe_crystals(record.collection, record.collection_sha256)}. Choose another "
                "folder, or restore the original crystals."
            )
