"""Submissions from the records of finished runs."""

import datetime as dt
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from crystal_agents.experiments.benchmark.results import BenchmarkRecord
from crystal_agents.experiments.discovery.results import DiscoveryRecord
from crystal_agents.experiments.leaderboard.checks import field_problems, task_problems
from crystal_agents.experiments.leaderboard.evaluation_runs import evaluation_runs
from crystal_agents.experiments.leaderboard.record_runs import (
    LeaderboardRun,
    benchmark_run,
    discovery_run,
    reproduction_run,
)
from crystal_agents.experiments.leaderboard.submission import OWN_CODE, Submission
from crystal_agents.experiments.leaderboard.tasks import TASKS, LeaderboardTask
from crystal_agents.experiments.reproduction.results import ReproductionRecord
from crystal_agents.experiments.results_file import RunRecord, load_records
from crystal_gym.errors import (
    CrystalGymError,
    DamagedFileError,
    MissingDataError,
    SubmissionError,
)

_ADVICE = "records of the exported runs are then missing"


@dataclass(frozen=True)
class Export:
    """Submissions of the methods of some records.

    Attributes:
        submissions: The valid submissions.
        left_out: Why other methods have no submission, one sentence for each.
    """

    submissions: list[Submission] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def export_files(paths: Sequence[Path], authors: Sequence[str]) -> Export:
    """Return the submissions of files of records, one for each task and method.

    Args:
        paths: Files ``benchmark.json``, ``discovery.json`` or ``table-1.json``, or outputs of
            ``crystal-gym evaluate --json``. Runs of one method may be in several files.
        authors: Authors of the submissions.

    Raises:
        MissingDataError: If a file does not exist.
        DamagedFileError: If a file does not contain such records.
        CrystalGymError: If an evaluation is not that of its task.
        SubmissionError: If an author has an invalid name.
    """
    runs, left_out = [], []
    for path in paths:
        of_file, sentences = _runs_of_file(path)
        runs += of_file
        left_out += sentences
    export = _export(runs, authors)
    return Export(export.submissions, [*left_out, *export.left_out])


def export_records(records: Iterable[RunRecord], authors: Sequence[str]) -> Export:
    """Return the submissions of records, one for each task and method.

    Args:
        records: Records of the benchmark, of searches or of Table 1.
        authors: Authors of the submissions.

    Raises:
        DamagedFileError: If a record belongs to another experiment.
        SubmissionError: If an author has an invalid name.
    """
    return _export(_runs_of(records), authors)


def save_submissions(submissions: Sequence[Submission], folder: Path) -> list[Path]:
    """Write submissions to a folder; those of the same authors are replaced.

    Args:
        submissions: The submissions.
        folder: The folder of submissions.

    Returns:
        The paths of the files.

    Raises:
        SubmissionError: If other authors have a file of the same name; nothing is written.
        StorageError: If a file cannot be written.
    """
    for submission in submissions:
        path = folder / submission.file_name
        authors = _authors_of(path)
        if authors not in (None, list(submission.authors)):
            raise SubmissionError(
                f"Expected no submission of other authors in {path}, got one of {authors}. Choose "
                "another folder with --folder, rename the method in your file and copy the file."
            )
    return [submission.save(folder) for submission in submissions]


def _authors_of(path: Path) -> object:
    """Return the authors in a file, or ``None`` if there is no file with authors."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("authors") if isinstance(content, dict) else None


def _runs_of(records: Iterable[RunRecord]) -> list[LeaderboardRun]:
    runs = [_CONVERTERS[type(record)](record) for record in records]
    return [run for run in runs if run is not None]


def _runs_of_file(path: Path) -> tuple[list[LeaderboardRun], list[str]]:
    if not path.is_file():
        raise MissingDataError(f"Expected a file of records {path}, got no file. Check the path.")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedFileError(
            f"Expected a JSON file of records, got {path}, which cannot be parsed: {error}. Run "
            "the experiment again."
        ) from error
    if isinstance(content, dict) and "rows" in content:
        try:
            return evaluation_runs(content)
        except (KeyError, TypeError, AttributeError) as error:
            raise DamagedFileError(
                f"Expected the output of `crystal-gym evaluate --json` in {path}, got other "
                f"content ({type(error).__name__}: {error}). Evaluate the policy again."
            ) from error
    first = content[0] if isinstance(content, list) and content else None
    for key, record_type in _RECORD_TYPES.items():
        if isinstance(first, dict) and key in first:
            return _runs_of(load_records(path, record_type, after_removal=_ADVICE)), []
    raise DamagedFileError(
        f"Expected records of a benchmark, a search, Table 1 or an evaluation in {path}, got other "
        "content. Choose another file."
    )


def _export(runs: Iterable[LeaderboardRun], authors: Sequence[str]) -> Export:
    if not authors:
        raise CrystalGymError("Expected the names of the authors, got none. Pass --authors NAME.")
    export = Export()
    groups: dict[tuple[str | None, ...], list[LeaderboardRun]] = {}
    for run in runs:
        # Runs on different crystals or labels are never mixed.
        fingerprints = run.record["collection_sha256"], run.labels_sha256
        group = groups.setdefault((run.task, run.method, *fingerprints), [])
        # Several evaluations contain the same baselines.
        if (run.seed, run.values) not in [(other.seed, other.values) for other in group]:
            group.append(run)
    for group in groups.values():
        name, method = group[0].task, group[0].method
        if name not in TASKS:
            export.left_out.append(f"{method}: the leaderboard has no task {name}.")
            continue
        submission = _submission(TASKS[name], group, authors)
        problems = task_problems(submission, f"{method} on {name}", submission.date)
        export.left_out.extend(problems)
        if not problems:
            export.submissions.append(submission)
    return export


def _submission(
    task: LeaderboardTask, runs: Sequence[LeaderboardRun], authors: Sequence[str]
) -> Submission:
    first, last = runs[0], max(runs, key=lambda run: run.record["date"])
    oracle_calls = [run.oracle_calls for run in runs if run.oracle_calls is not None]
    fields = {
        "task": task.name,
        "method": first.method,
        "authors": tuple(authors),
        "code": OWN_CODE,
        "paper": None,
        "date": dt.datetime.fromisoformat(last.record["date"]).date(),
        "expert_data": first.expert_data,
        "environment_steps": first.environment_steps,
        "oracle_calls": max(oracle_calls) if oracle_calls else None,
        "seeds": tuple(run.seed for run in runs),
        "values": {
            key: tuple(float(run.values[key]) for run in runs if key in run.values)
            for key in task.metrics
        },
        "collection_sha256": first.record["collection_sha256"],
        "labels_sha256": first.labels_sha256,
        "version": last.record["versions"]["crystal-gym"],
        "hardware": "; ".join(sorted({run.record["hardware"] for run in runs})),
    }
    try:
        return Submission.model_validate(fields)
    except ValidationError as error:
        place = f"the submission of {first.method}"
        raise SubmissionError("\n".join(field_problems(error, place))) from error


# Records by a key that only they have.
_RECORD_TYPES: dict[str, type[RunRecord]] = {
    "reward": BenchmarkRecord,
    "found_at": DiscoveryRecord,
    "variant": ReproductionRecord,
}
_CONVERTERS: dict[type[RunRecord], Callable[[Any], LeaderboardRun | None]] = {
    BenchmarkRecord: benchmark_run,
    DiscoveryRecord: discovery_run,
    ReproductionRecord: reproduction_run,
}
