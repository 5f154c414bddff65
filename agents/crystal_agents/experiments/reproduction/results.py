"""The results of an experiment: one record a run, all in one JSON file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments import results_file as records


@dataclass(frozen=True)
class Curve:
    """Teacher-forced accuracy while a run learned.

    Attributes:
        epoch: those at whose ends the held-out crystals were judged.
        train: accuracy during each of these epochs, on the states that were learned from.
        val: accuracy at its end, on the val split.
    """

    epoch: list[int]
    train: list[float]
    val: list[float]

    def __post_init__(self) -> None:
        if not len(self.epoch) == len(self.train) == len(self.val):
            raise ValueError("a curve's epochs and accuracies differ in number")


@dataclass(frozen=True)
class Record:
    """One finished run and its figures on the test split.

    Attributes:
        column: of the experiment's table.
        seed: of the run.
        epochs: passes over the transitions; 0 where nothing is learned, as in the next three.
        network: a name of ``crystal_agents.networks.registry.ENCODERS``, or ``None``.
        trajectories: of each crystal.
        transitions: all that were learned from.
        precision: Fabric's; ``None`` where nothing is learned.
        collection: name or full path of the crystals.
        collection_sha256: fingerprint of the crystals.
        n_crystals: how many were filled.
        figures: by name of ``crystal_agents.evaluation.metrics.METRICS``, as fractions; intervals are over
            crystals.
        curve: ``None`` where nothing is learned.
        seconds: of training.
        transitions_per_second: while training.
        hardware: where the run ended.
        versions: of the software.
        date: when the run was evaluated, ISO 8601.
    """

    variant: str
    seed: int
    epochs: int
    network: str | None
    trajectories: int
    transitions: int
    precision: str | None
    collection: str
    collection_sha256: str
    n_crystals: int
    metrics: dict[str, MeanWithCI]
    curve: Curve | None
    seconds: float
    transitions_per_second: float
    hardware: str
    versions: dict[str, str]
    date: str

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Record":
        """A record as ``dataclasses.asdict`` gave it; ``TypeError`` or alike where it is not."""
        metrics = {name: MeanWithCI(**figure) for name, figure in entry["figures"].items()}
        curve = None if entry["curve"] is None else Curve(**entry["curve"])
        return cls(**{**entry, "figures": metrics, "curve": curve})


def load_records(path: Path) -> list[Record]:
    """All records, in the order of their runs; none where there is no file yet.

    Raises:
        DamagedFileError: the file is not one that ``append_record`` wrote.
    """
    return records.load_records(
        path,
        Record.from_json,
        without="the runs beside it are then evaluated anew, without being trained again",
    )


def append_record(path: Path, record: Record) -> None:
    """Add a run to the file, whole or not at all.

    Raises:
        CrystalGymError: the file's records are of other crystals.
        DamagedFileError: the file is damaged; it stays as it is.
        StorageError: it cannot be written.
    """
    # Read anew: another process may have finished runs of its own meanwhile.
    before = load_records(path)
    records.require_same_crystals(path, before, record.collection_sha256)
    records.save_records(path, [*before, record])
