"""The runs of a benchmark: made once each, kept in one JSON file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystal_agents.experiments.benchmark.config import BenchmarkConfig
from crystal_agents.experiments.benchmark.methods import METHODS
from crystal_agents.experiments.results_file import load_records
from crystal_gym.errors import CrystalGymError

RESULTS_FILE = "benchmark.json"


@dataclass(frozen=True)
class Record:
    """One finished run.

    Attributes:
        contestant: a name of ``METHODS``.
        reward: a name of ``crystal_gym.rewards.REWARDS``.
        seed: of the run.
        plan: what else decides its outcome.
        collection_sha256: fingerprint of the crystals.
        figures: on all crystals of test, see ``BenchmarkTask.measure``.
        curve: steps of the environment and mean return on val; empty where nothing was learned
            there.
        seconds: of the run, with the measurements.
        hardware: where it was made.
        versions: of the software.
        date: when it ended, ISO 8601.
        labels_sha256: fingerprint of the labels that the reward looks up.
    """

    method: str
    reward: str
    seed: int
    config: dict[str, Any]
    collection_sha256: str
    metrics: dict[str, float]
    curve: list[tuple[int, float]]
    seconds: float
    hardware: str
    versions: dict[str, str]
    date: str
    labels_sha256: str | None = None

    @property
    def collection(self) -> str:
        """Of the crystals, as the plan names it."""
        return self.config["collection"]

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Record":
        """A record as ``dataclasses.asdict`` gave it; ``TypeError`` or alike where it is not."""
        curve = [(int(step), float(value)) for step, value in entry["curve"]]
        return cls(**{**entry, "curve": curve})


def load_results(folder: Path) -> list[Record]:
    """All runs of a folder.

    Raises:
        DamagedFileError: the file is damaged.
    """
    return load_records(
        folder / RESULTS_FILE,
        Record.from_json,
        without="online learners then learn anew; of offline ones the checkpoints beside it serve",
    )


def select(records: Sequence[Record], config: BenchmarkConfig, path: Path) -> list[Record]:
    """The records of a plan's rewards, contestants and seeds.

    Raises:
        CrystalGymError: the records are of another plan.
    """
    _require_same_plan(path, records, config.settings)
    return [
        record
        for record in records
        if record.reward in config.rewards
        and record.method in config.methods
        and (record.seed in config.seeds or not METHODS[record.method].seeded)
    ]


def _require_same_plan(path: Path, records: Sequence[Record], settings: dict[str, Any]) -> None:
    """Results of different plans are never brought together."""
    if any(record.config != settings for record in records):
        raise CrystalGymError(f"{path} holds results of another plan. Choose another folder.")
