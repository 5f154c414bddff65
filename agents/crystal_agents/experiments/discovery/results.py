"""Stored results of the discovery task."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from crystal_agents.experiments.results_file import ResultsFile, RunRecord
from crystal_gym.errors import CrystalGymError

RESULTS_FILE = "discovery.json"


@dataclass(frozen=True, kw_only=True)
class DiscoveryRecord(RunRecord):
    """A finished search.

    Attributes:
        task: Name of the reward whose targets are searched for.
        method: Name of the method, a key of ``METHODS``.
        seed: Seed of the search.
        budget: Number of distinct crystals that could be evaluated.
        n_crystals: Number of crystals of the collection.
        n_targets: Number of targets.
        found_at: Number of evaluations at which each target was found, in ascending order.
        evaluations: Number of distinct crystals evaluated in total.
        settings: Settings of the method.
        counts: Numbers that the method reports about itself, see ``Search.counts``.
        labels_sha256: Fingerprint of the labels.
    """

    task: str
    method: str
    seed: int
    budget: int
    n_crystals: int
    n_targets: int
    found_at: tuple[int, ...]
    evaluations: int
    settings: dict[str, Any]
    labels_sha256: str | None
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def key(self) -> Hashable:
        """Task, method and seed."""
        return self.task, self.method, self.seed

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """Restore a record from the dictionary that ``dataclasses.asdict`` returned.

        Raises:
            TypeError, KeyError, ValueError: If the entry is not such a dictionary.
        """
        return cls(**{**entry, "found_at": tuple(map(int, entry["found_at"]))})


def results_file(folder: Path) -> ResultsFile[DiscoveryRecord]:
    """Return the results file of a folder."""
    return ResultsFile(folder / RESULTS_FILE, DiscoveryRecord, "a rerun then repeats all searches")


def require_same_searches(
    path: Path, records: Sequence[DiscoveryRecord], budget: int, labels: Mapping[str, str | None]
) -> None:
    """Verify that records have this budget, and these labels by task.

    Raises:
        CrystalGymError: If a record has another budget or other labels.
    """
    for record in records:
        if record.budget != budget:
            raise CrystalGymError(
                f"Expected searches with a budget of {budget} evaluations in {path}, got "
                f"{record.budget}. Choose another folder or this budget."
            )
        if record.task in labels and record.labels_sha256 != labels[record.task]:
            raise CrystalGymError(
                f"Expected searches of {record.task!r} with the present labels in {path}, got "
                "searches with other labels. Choose another folder."
            )
