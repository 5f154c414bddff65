"""Validation of submissions: every problem of every file in one error."""

import datetime as dt
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from crystal_agents.experiments.leaderboard.submission import Submission
from crystal_agents.experiments.leaderboard.tasks import LeaderboardTask, Metric, get_task
from crystal_gym.errors import MissingDataError, SubmissionError, UnknownNameError

# Characters of an invalid value that a message shows.
_SHOWN = 60
# Names that need no escape in a link.
_FILE_NAME = re.compile(r"[A-Za-z0-9_-]+\.json")
# Crystals and labels are the same for everybody who uses the same files.
_FINGERPRINT_REMEDY = (
    "Measure on the crystals and labels of this version: `crystal-gym leaderboard template` "
    "writes their fingerprints."
)


def read_submission(path: Path, today: dt.date | None = None) -> Submission:
    """Read and validate a submission.

    Args:
        path: The JSON file.
        today: Latest valid date (default: tomorrow, for the sake of time zones).

    Raises:
        MissingDataError: If there is no such file.
        SubmissionError: If the submission is invalid; the message has one line for each problem.
    """
    submission = _parse(path)
    today = today or dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
    problems = task_problems(submission, str(path), today)
    if problems:
        raise SubmissionError("\n".join(problems))
    return submission


def task_problems(submission: Submission, place: str, today: dt.date) -> list[str]:
    """Compare a submission with its task.

    Args:
        submission: The submission.
        place: Path or description of the submission, for the messages.
        today: Latest valid date.

    Returns:
        An error message for each problem.
    """
    return [problem.message(place) for problem in _task_problems(submission, today)]


def field_problems(error: ValidationError, place: str) -> list[str]:
    """Describe invalid values of a submission.

    Args:
        error: The error of pydantic.
        place: Path or description of the submission, for the messages.

    Returns:
        An error message for each problem.
    """
    problems = [_explain(dict(details)).message(place) for details in error.errors()]
    return list(dict.fromkeys(problems))


def read_all(paths: Iterable[Path], today: dt.date | None = None) -> dict[Path, Submission]:
    """Read and validate submissions, whose methods must differ within each task.

    Args:
        paths: The JSON files.
        today: Latest valid date, see ``read_submission``.

    Raises:
        MissingDataError: If a file does not exist.
        SubmissionError: If any submission is invalid; the message has one line for each problem.
    """
    submissions: dict[Path, Submission] = {}
    problems = []
    for path in paths:
        try:
            submissions[path] = read_submission(path, today)
        except SubmissionError as error:
            problems.append(str(error))
    problems += _duplicates(submissions)
    if problems:
        raise SubmissionError("\n".join(problems))
    return submissions


def read_folder(folder: Path, today: dt.date | None = None) -> dict[Path, Submission]:
    """Read and validate all submissions of a folder, each in the subfolder of its task.

    Args:
        folder: The folder of submissions.
        today: Latest valid date, see ``read_submission``.

    Raises:
        MissingDataError: If there is no such folder.
        SubmissionError: If a submission is invalid or in another folder than that of its task.
    """
    if not folder.is_dir():
        raise MissingDataError(
            f"Expected a folder of submissions {folder}, got no folder. Run the command in a "
            "checkout of the repository."
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    problems = [
        f"Expected names of letters, digits, hyphens and underscores with the suffix .json in "
        f"{folder}, got {path}. Rename or remove the file."
        for path in files
        if not _FILE_NAME.fullmatch(path.name)
    ]
    try:
        submissions = read_all([path for path in files if path.suffix == ".json"], today)
    except SubmissionError as error:
        raise SubmissionError("\n".join([*problems, str(error)])) from error
    problems += [
        f"Expected the submission {path} in the folder of its task, {folder / submission.task}, "
        f"got the folder {path.parent}. Move it."
        for path, submission in submissions.items()
        if path.parent != folder / submission.task
    ]
    if problems:
        raise SubmissionError("\n".join(problems))
    return submissions


@dataclass(frozen=True)
class _Problem:
    """A value that differs from what is expected."""

    key: str
    expected: str
    got: str
    remedy: str = "Correct the value."

    def message(self, place: str) -> str:
        """Return the error message."""
        return f"Expected {self.expected}, got {self.got} as {self.key} of {place}. {self.remedy}"


def _parse(path: Path) -> Submission:
    """Return the submission of a file without comparing it with its task."""
    try:
        text = path.read_bytes().decode("utf-8")
        content = json.loads(text, object_pairs_hook=_without_duplicates)
    except FileNotFoundError as error:
        raise MissingDataError(f"Expected a file {path}, got no file. Check the path.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SubmissionError(
            f"Expected a JSON file in UTF-8, got {path}, which cannot be parsed: {error}. Correct "
            "the file."
        ) from error
    if not isinstance(content, dict):
        raise SubmissionError(
            f"Expected a JSON object in {path}, got {_shown(content)}. Write one object with the "
            "keys of a submission."
        )
    try:
        return Submission.model_validate_json(text)
    except ValidationError as error:
        raise SubmissionError("\n".join(field_problems(error, str(path)))) from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in pairs:
        if key in entries:
            raise ValueError(f"the key {key!r} occurs twice")
        entries[key] = value
    return entries


def _explain(details: Mapping[str, Any]) -> _Problem:
    """Describe an error of pydantic by the description of the field."""
    if not details["loc"]:
        return _Problem("content", "valid JSON", details["msg"])
    name, *place = details["loc"]
    field = Submission.model_fields.get(str(name))
    if field is None:
        unknown = UnknownNameError("key", name, Submission.model_fields)
        return _Problem("a key", "the keys of a submission", repr(name), str(unknown))
    expected = (field.description or "").rstrip(".")
    expected = expected[:1].lower() + expected[1:]
    if details["type"] == "missing":
        return _Problem(str(name), expected, "nothing", "Add the key.")
    key = str(name) + "".join(f"[{i}]" if isinstance(i, int) else f".{i}" for i in place)
    return _Problem(key, expected, _shown(details["input"]))


def _task_problems(submission: Submission, today: dt.date) -> Iterator[_Problem]:
    """Yield the differences between a submission and its task."""
    try:
        task = get_task(submission.task)
    except UnknownNameError as error:
        yield _Problem("task", "the name of a task", _shown(submission.task), str(error))
        return
    if submission.date > today:
        yield _Problem("date", f"a date up to {today}", str(submission.date))
    for key in ("collection_sha256", "labels_sha256"):
        expected, got = getattr(task, key), getattr(submission, key)
        if got != expected:
            yield _Problem(
                key, f"{expected or 'null'} for {task.name}", got or "null", _FINGERPRINT_REMEDY
            )
    if set(submission.values) != set(task.metrics):
        yield _Problem(
            "values",
            f"the metrics of {task.name}: {', '.join(task.metrics)}",
            ", ".join(submission.values),
            "Add or remove metrics.",
        )
    for key, metric in task.metrics.items():
        yield from _value_problems(f"values.{key}", metric, submission.values.get(key), submission)
    if task.ascending:
        yield from _order_problems(task, submission)


def _value_problems(
    key: str, metric: Metric, values: tuple[float, ...] | None, submission: Submission
) -> Iterator[_Problem]:
    if values is None:
        return
    if len(values) != len(submission.seeds):
        yield _Problem(
            key,
            f"one number for each of the {len(submission.seeds)} seeds",
            f"{len(values)} numbers",
            "Make seeds and values equally long.",
        )
    kind = "whole numbers" if metric.whole else "numbers"
    for i, value in enumerate(values):
        if not metric.low <= value <= metric.high or (metric.whole and value != int(value)):
            yield _Problem(f"{key}[{i}]", f"{kind} from {metric.low} to {metric.high}", str(value))


def _order_problems(task: LeaderboardTask, submission: Submission) -> Iterator[_Problem]:
    """Compare the metrics of each seed, which ascend in the order of the task."""
    columns = [submission.values.get(key, ()) for key in task.metrics]
    for seed, numbers in zip(submission.seeds, zip(*columns, strict=False), strict=False):
        if list(numbers) != sorted(set(numbers)):
            yield _Problem(
                "values",
                f"ascending {', '.join(task.metrics)} for seed {seed}",
                ", ".join(f"{number:g}" for number in numbers),
            )


def _duplicates(submissions: Mapping[Path, Submission]) -> Iterator[str]:
    first: dict[tuple[str, str], Path] = {}
    for path, submission in submissions.items():
        key = submission.task, " ".join(submission.method.casefold().split())
        if key in first:
            yield (
                f"Expected different methods for {submission.task}, got {submission.method!r} in "
                f"{first[key]} and {path}. Rename one of them."
            )
        first.setdefault(key, path)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=not str(value).isprintable(), default=repr)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
