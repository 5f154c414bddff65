"""Submissions from the records of finished runs."""

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from crystal_agents.evaluation.evaluate import GROUND_TRUTH
from crystal_agents.experiments.benchmark.methods import METHODS
from crystal_agents.experiments.benchmark.results import BenchmarkRecord
from crystal_agents.experiments.discovery.methods import METHODS as SEARCHES
from crystal_agents.experiments.discovery.results import DiscoveryRecord
from crystal_agents.experiments.leaderboard.checks import field_problems, task_problems
from crystal_agents.experiments.leaderboard.submission import OWN_CODE, Submission
from crystal_agents.experiments.leaderboard.tasks import TASKS, LeaderboardTask
from crystal_agents.experiments.reproduction.experiment import PAPER_EPOCHS
from crystal_agents.experiments.reproduction.results import ReproductionRecord
from crystal_agents.experiments.reproduction.table_1 import TABLE_1, VARIANTS
from crystal_agents.experiments.results_file import RunRecord, load_records
from crystal_agents.policies.pretrained import pretrained_policies
from crystal_gym.errors import (
    CrystalGymError,
    DamagedFileError,
    MissingDataError,
    SubmissionError,
)

# The baseline of an evaluation that does not learn from the training crystals.
_UNINFORMED = "uniform"
_ADVICE = "records of the exported runs are then missing"


@dataclass(frozen=True)
class Export:
    """Submissions of the methods of a file of records.

    Attributes:
        submissions: The valid submissions.
        left_out: Why other methods have no submission, one sentence for each.
    """

    submissions: list[Submission] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Run:
    """The part of a record that a submission contains."""

    task: str
    method: str
    seed: int
    values: Mapping[str, float]
    labels_sha256: str | None
    expert_data: bool
    environment_steps: int | None
    oracle_calls: int | None
    record: Mapping[str, Any]


def export_file(path: Path, authors: Sequence[str]) -> Export:
    """Return the submissions of a file of records.

    Args:
        path: A file ``benchmark.json``, ``discovery.json`` or ``table-1.json``, or the output of
            ``crystal-gym evaluate --json``.
        authors: Authors of the submissions.

    Raises:
        MissingDataError: If there is no such file.
        DamagedFileError: If the file does not contain such records.
    """
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
            runs = list(_evaluation_runs(content))
        except (KeyError, TypeError, AttributeError) as error:
            raise DamagedFileError(
                f"Expected the output of `crystal-gym evaluate --json` in {path}, got a report "
                f"without the key {error}. Evaluate the policy again."
            ) from error
        return _export(runs, authors)
    first = content[0] if isinstance(content, list) and content else None
    for key, record_type in _RECORD_TYPES.items():
        if isinstance(first, dict) and key in first:
            return export_records(load_records(path, record_type, after_removal=_ADVICE), authors)
    raise DamagedFileError(
        f"Expected records of a benchmark, a search, Table 1 or an evaluation in {path}, got other "
        "content. Choose another file."
    )


def export_records(records: Iterable[RunRecord], authors: Sequence[str]) -> Export:
    """Return the submissions of records, one for each task and method.

    Args:
        records: Records of the benchmark, of searches or of Table 1.
        authors: Authors of the submissions.
    """
    runs = [_CONVERTERS[type(record)](record) for record in records]
    return _export([run for run in runs if run is not None], authors)


def _export(runs: Sequence[_Run], authors: Sequence[str]) -> Export:
    if not authors or not all(authors):
        raise CrystalGymError("Expected the names of the authors, got none. Pass --authors NAME.")
    export = Export()
    groups: dict[tuple[str, str], list[_Run]] = {}
    for run in runs:
        groups.setdefault((run.task, run.method), []).append(run)
    for (name, method), group in groups.items():
        if name not in TASKS:
            export.left_out.append(f"{method}: the leaderboard has no task {name}.")
            continue
        submission = _submission(TASKS[name], group, authors)
        problems = task_problems(submission, f"{method} on {name}", submission.date)
        export.left_out.extend(problems)
        if not problems:
            export.submissions.append(submission)
    return export


def _submission(task: LeaderboardTask, runs: Sequence[_Run], authors: Sequence[str]) -> Submission:
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


def _benchmark_run(record: BenchmarkRecord) -> _Run:
    method = METHODS[record.method]
    return _Run(
        task=f"{Path(record.collection).name}/{record.reward}",
        method=method.title,
        seed=record.seed,
        values=record.metrics,
        labels_sha256=record.labels_sha256,
        expert_data=method.expert_data,
        environment_steps=record.config["steps"] if method.online else 0,
        # Records do not count them.
        oracle_calls=None,
        record=vars(record),
    )


def _discovery_run(record: DiscoveryRecord) -> _Run:
    task = f"discovery/{record.task}"
    metrics = TASKS[task].metrics if task in TASKS else {}
    found = {int(key.rpartition("_")[2]): key for key in metrics}
    return _Run(
        task=task,
        method=SEARCHES[record.method].title,
        seed=record.seed,
        values={
            key: record.found_at[k - 1] for k, key in found.items() if k <= len(record.found_at)
        },
        labels_sha256=record.labels_sha256,
        expert_data=False,
        environment_steps=None,
        oracle_calls=record.evaluations,
        record=vars(record),
    )


def _reproduction_run(record: ReproductionRecord) -> _Run | None:
    """Return a trained column of Table 1; its random agent is the uniform baseline elsewhere."""
    if record.variant not in VARIANTS:
        raise DamagedFileError(
            f"Expected a variant of Table 1 ({', '.join(VARIANTS)}), got {record.variant!r}. "
            "Choose another file of records."
        )
    if VARIANTS[record.variant].recipe is None:
        return None
    (group,) = TABLE_1.groups([record])
    epochs = "" if record.epochs in {0, PAPER_EPOCHS} else f", {record.epochs} epochs"
    return _Run(
        task=f"{Path(record.collection).name}/accuracy",
        method=TABLE_1.title(group) + epochs,
        seed=record.seed,
        values={"accuracy": record.metrics["accuracy"].mean},
        labels_sha256=None,
        expert_data=True,
        environment_steps=0,
        oracle_calls=0,
        record=vars(record),
    )


def _evaluation_runs(report: Mapping[str, Any]) -> Iterator[_Run]:
    """Yield the rows of an evaluation in which each policy is one run."""
    task = f"{report['collection']}/accuracy"
    protocol = report["split"], report["start"], report["crystals"], report["n_start_sites"]
    if task in TASKS and protocol != ("test", "empty", None, TASKS[task].start_sites):
        raise CrystalGymError(
            f"Expected an evaluation on all test crystals, from empty skeletons and "
            f"{TASKS[task].start_sites} start sites, got the split {protocol[0]}, start "
            f"{protocol[1]}, {protocol[2] or 'all'} crystals and {protocol[3]} start sites. "
            "Evaluate the policy again."
        )
    policies: Mapping[str, int | None] = report["policies"]
    names = [name for name in policies if name in pretrained_policies()]
    for row, metrics in report["rows"].items():
        if row == GROUND_TRUTH or metrics["runs"] > 1:
            continue
        policy = next((name for name in names if name.rpartition("/")[2] == row), None)
        yield _Run(
            task=task,
            method=policy or row,
            seed=(policies[policy] if policy else report["seed"]) or 0,
            values={"accuracy": metrics["metrics"]["accuracy"]["mean"]},
            labels_sha256=None,
            expert_data=row != _UNINFORMED,
            environment_steps=0,
            oracle_calls=0,
            record=report,
        )


# Records by a key that only they have.
_RECORD_TYPES: dict[str, type[RunRecord]] = {
    "reward": BenchmarkRecord,
    "found_at": DiscoveryRecord,
    "variant": ReproductionRecord,
}
_CONVERTERS: dict[type[RunRecord], Callable[[Any], _Run | None]] = {
    BenchmarkRecord: _benchmark_run,
    DiscoveryRecord: _discovery_run,
    ReproductionRecord: _reproduction_run,
}
