"""Records of the reproduction's runs."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments.results_file import ResultsFile, RunRecord


@dataclass(frozen=True)
class AccuracyCurve:
    """Teacher-forced accuracy during training, as fractions.

    Attributes:
        epoch: Epochs after which the accuracy on the val split was measured.
        train: Accuracy during each of these epochs, on the training states.
        val: Accuracy after each of these epochs, on the val split.
    """

    epoch: list[int]
    train: list[float]
    val: list[float]

    def __post_init__(self) -> None:
        lengths = len(self.epoch), len(self.train), len(self.val)
        if len(set(lengths)) > 1:
            raise ValueError(
                "Expected as many train and val accuracies as epochs, got "
                f"{lengths[1]} and {lengths[2]} for {lengths[0]} epochs."
            )


@dataclass(frozen=True, kw_only=True)
class ReproductionRecord(RunRecord):
    """A finished run with its metrics on the test split; ``seconds`` is the time of training.

    For a variant without training, ``epochs``, ``trajectories``, ``transitions``, ``seconds`` and
    ``transitions_per_second`` are 0, and ``network``, ``precision`` and ``curve`` are ``None``.

    Attributes:
        variant: Name of the experiment's variant.
        seed: Seed of the run.
        epochs: Passes over the transitions.
        network: Name of ``crystal_agents.networks.registry.ENCODERS``.
        trajectories: Expert trajectories for each crystal.
        transitions: Number of training transitions.
        precision: Floating-point precision of the training.
        n_crystals: Number of test crystals.
        metrics: Metrics by name of ``crystal_agents.evaluation.metrics.METRICS``, as fractions.
            The intervals are over crystals.
        curve: Accuracy during training.
        transitions_per_second: Speed of training.
    """

    variant: str
    seed: int
    epochs: int
    network: str | None
    trajectories: int
    transitions: int
    precision: str | None
    n_crystals: int
    metrics: dict[str, MeanWithCI]
    curve: AccuracyCurve | None
    transitions_per_second: float

    @property
    def key(self) -> Hashable:
        """Variant, seed, epochs and precision."""
        return self.variant, self.seed, self.epochs, self.precision

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """Restore a record from the dictionary that ``dataclasses.asdict`` returned.

        Raises:
            TypeError, KeyError, ValueError, AttributeError: If the entry is not such a dictionary.
        """
        metrics = {name: MeanWithCI(**metric) for name, metric in entry["metrics"].items()}
        curve = None if entry["curve"] is None else AccuracyCurve(**entry["curve"])
        return cls(**{**entry, "metrics": metrics, "curve": curve})


def results_file(path: Path) -> ResultsFile[ReproductionRecord]:
    """Return the results file of an experiment."""
    return ResultsFile(
        path, ReproductionRecord, "a rerun then evaluates the trained policies again"
    )
