"""Runs of the leaderboard from the records of the experiments."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystal_agents.experiments.benchmark.config import load_benchmark_config
from crystal_agents.experiments.benchmark.methods import METHODS
from crystal_agents.experiments.benchmark.results import BenchmarkRecord
from crystal_agents.experiments.discovery.methods import get_method
from crystal_agents.experiments.discovery.results import DiscoveryRecord
from crystal_agents.experiments.leaderboard.tasks import TASKS
from crystal_agents.experiments.reproduction.experiment import PAPER_EPOCHS
from crystal_agents.experiments.reproduction.results import ReproductionRecord
from crystal_agents.experiments.reproduction.table_1 import TABLE_1, VARIANTS
from crystal_gym.errors import DamagedFileError


@dataclass(frozen=True)
class LeaderboardRun:
    """The part of a run's record that a submission contains.

    Attributes:
        task: Name of the task.
        method: Name of the method.
        seed: Seed of the run.
        values: Value of each metric of the task that the record has.
        labels_sha256: Fingerprint of the labels of the reward.
        expert_data: Whether the method learned from known crystals.
        environment_steps: Environment steps of the training, ``None`` if they are unknown.
        oracle_calls: Evaluations of the reward, ``None`` if they are unknown.
        record: Fingerprint of the crystals, hardware, versions and date, by their keys in records.
    """

    task: str
    method: str
    seed: int
    values: Mapping[str, float]
    labels_sha256: str | None
    expert_data: bool
    environment_steps: int | None
    oracle_calls: int | None
    record: Mapping[str, Any]


def benchmark_run(record: BenchmarkRecord) -> LeaderboardRun:
    """Return a run of the benchmark."""
    method = METHODS[record.method]
    policy = record.config["policy"]
    depends_on_policy = method.expert_data and policy != load_benchmark_config("perov-5").policy
    return LeaderboardRun(
        task=f"{Path(record.collection).name}/{record.reward}",
        method=f"{method.title} ({policy})" if depends_on_policy else method.title,
        seed=record.seed,
        values=record.metrics,
        labels_sha256=record.labels_sha256,
        expert_data=method.expert_data,
        environment_steps=record.config["steps"] if method.online else 0,
        oracle_calls=record.oracle_calls[-1] if record.oracle_calls else None,
        record=vars(record),
    )


def discovery_run(record: DiscoveryRecord) -> LeaderboardRun:
    """Return a search.

    Raises:
        UnknownNameError: If the method is unknown.
    """
    task = f"discovery/{record.task}"
    metrics = TASKS[task].metrics if task in TASKS else {}
    found = {int(key.rpartition("_")[2]): key for key in metrics}
    return LeaderboardRun(
        task=task,
        method=get_method(record.method).title,
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


def reproduction_run(record: ReproductionRecord) -> LeaderboardRun | None:
    """Return a trained column of Table 1; its random agent is the uniform baseline elsewhere.

    Raises:
        DamagedFileError: If the record belongs to another experiment.
    """
    if record.variant not in VARIANTS:
        raise DamagedFileError(
            f"Expected a variant of Table 1 ({', '.join(VARIANTS)}), got {record.variant!r}. "
            "Choose another file of records."
        )
    if VARIANTS[record.variant].recipe is None:
        return None
    (group,) = TABLE_1.groups([record])
    epochs = "" if record.epochs in {0, PAPER_EPOCHS} else f", {record.epochs} epochs"
    return LeaderboardRun(
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
