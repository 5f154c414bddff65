"""Execution of an experiment's runs: each run once, with its record stored as soon as it ends."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

from crystal_agents.experiments.results_file import RecordT, ResultsFile


@dataclass(frozen=True)
class Run(Generic[RecordT]):
    """One run of an experiment.

    Attributes:
        key: Identity of the run, equal to the ``key`` of its record.
        execute: Executes the run and returns its record.
    """

    key: Hashable
    execute: Callable[[], RecordT]


def run_missing(
    runs: Iterable[Run[RecordT]],
    results: ResultsFile[RecordT],
    check: Callable[[Sequence[RecordT]], None],
) -> Iterator[RecordT]:
    """Execute the runs that have no record yet, and append each record to the results.

    The results are read again before every run, so that several processes can share one file.

    Args:
        runs: The runs, in the order of their execution.
        results: File of the results.
        check: Raises ``CrystalGymError`` if the stored records must not be combined with these
            runs, for example because they were made with other settings, crystals or labels.

    Yields:
        The record of each new run.

    Raises:
        CrystalGymError: If ``check`` rejects the stored records.
        DamagedFileError: If the results are damaged.
        StorageError: If the results cannot be written.
    """
    check(results.load())
    for run in runs:
        records = results.load()
        check(records)
        if run.key in {record.key for record in records}:
            continue
        record = run.execute()
        results.append(record)
        yield record
