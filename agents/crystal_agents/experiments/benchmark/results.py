"""Stored results of a benchmark."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from crystal_agents.experiments.benchmark.config import BenchmarkConfig
from crystal_agents.experiments.benchmark.methods import METHODS, check_methods
from crystal_agents.experiments.benchmark.task import Curve
from crystal_agents.experiments.results_file import ResultsFile, RunRecord
from crystal_gym.collections import canonical_origin
from crystal_gym.errors import CrystalGymError, UnknownNameError

RESULTS_FILE = "benchmark.json"


@dataclass(frozen=True, kw_only=True)
class BenchmarkRecord(RunRecord):
    """A finished run of a benchmark; ``seconds`` includes training and evaluation.

    Attributes:
        method: Name of the method, a key of ``METHODS``.
        reward: Name of the reward.
        seed: Seed of the run.
        config: Settings of the run, see ``BenchmarkConfig.settings``.
        metrics: Metrics on the test split, see ``BenchmarkTask.measure``.
        curve: Learning curve; empty if the method does not learn in the environment.
        oracle_calls: Oracle calls before each point of the learning curve; without a curve, their
            total number alone; empty in records of earlier versions.
        labels_sha256: Fingerprint of the labels that the reward looks up, if it looks up any.
    """

    method: str
    reward: str
    seed: int
    config: dict[str, Any]
    metrics: dict[str, float]
    curve: Curve
    labels_sha256: str | None = None
    oracle_calls: list[int] = field(default_factory=list)

    @property
    def key(self) -> Hashable:
        """Method, reward and seed; the seed is ``None`` if the method does not depend on it."""
        return run_key(self.method, self.reward, self.seed)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """Restore a record from the dictionary that ``dataclasses.asdict`` returned.

        Raises:
            UnknownNameError: If the method is unknown.
            TypeError, KeyError, ValueError: If the entry is not such a dictionary.
        """
        if entry["method"] not in METHODS:
            raise UnknownNameError("method", entry["method"], METHODS)
        curve = [(int(step), float(value)) for step, value in entry["curve"]]
        oracle_calls = [int(calls) for calls in entry.get("oracle_calls", [])]
        return cls(**{**entry, "curve": curve, "oracle_calls": oracle_calls})


def run_key(method: str, reward: str, seed: int) -> Hashable:
    """Return the identity of a run, without the seed if the method does not depend on it."""
    return method, reward, seed if METHODS[method].seeded else None


def results_file(folder: Path) -> ResultsFile[BenchmarkRecord]:
    """Return the results file of a folder."""
    return ResultsFile(
        folder / RESULTS_FILE,
        BenchmarkRecord,
        "a rerun then repeats all runs, and offline learners load their checkpoints",
    )


def load_results(folder: Path) -> list[BenchmarkRecord]:
    """Return all records of a folder, in the order of their runs.

    Raises:
        DamagedFileError: If the results file is damaged.
    """
    return results_file(folder).load()


def select(
    records: Sequence[BenchmarkRecord], config: BenchmarkConfig, path: Path
) -> list[BenchmarkRecord]:
    """Return the records of a config's rewards, methods and seeds.

    Args:
        records: The records.
        config: The benchmark config.
        path: File of the records, for error messages.

    Raises:
        UnknownNameError: If a method of the config is unknown.
        CrystalGymError: If the records were made with another config.
    """
    check_methods(config)
    require_same_config(path, records, config)
    keys = {
        run_key(method, reward, seed)
        for method in config.methods
        for reward in config.rewards
        for seed in config.seeds
    }
    return [record for record in records if record.key in keys]


def require_same_config(
    path: Path, records: Sequence[BenchmarkRecord], config: BenchmarkConfig
) -> None:
    """Verify that records were made with the settings and the collection of a config.

    Raises:
        CrystalGymError: If a record was made with another config.
    """
    expected = {"collection": canonical_origin(config.collection), **config.settings}
    for record in records:
        found = {"collection": record.collection, **record.config}
        if found != expected:
            keys = [key for key in expected if found.get(key) != expected[key]] or list(found)
            raise CrystalGymError(
                f"Expected results of this benchmark config in {path}, got results of another "
                f"config, which differs in {', '.join(keys)}. Choose another folder."
            )
