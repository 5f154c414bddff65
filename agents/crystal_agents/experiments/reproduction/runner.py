"""Runs of the reproduction: training or a baseline, with one evaluation on the test split."""

import csv
import math
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from minari.storage import get_dataset_path

from crystal_agents.evaluation.evaluate import evaluate
from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments.provenance import provenance
from crystal_agents.experiments.reproduction.altered_crystals import ALTERATIONS
from crystal_agents.experiments.reproduction.results import AccuracyCurve, ReproductionRecord
from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.training.behavioral_cloning import train
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.data import load_split
from crystal_agents.training.fabric import make_fabric
from crystal_agents.training.fixed_shape_cloning import fixed_shapes_problem, train_fixed_shapes
from crystal_agents.training.history import HISTORY_FILE
from crystal_agents.training.precision import Precision
from crystal_agents.training.recipes import Recipe
from crystal_datasets import build_dataset, dataset_id
from crystal_gym.collections import canonical_origin, load_collection
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.errors import DamagedFileError, TimeLimitError

if TYPE_CHECKING:
    from crystal_datasets.transitions import Transitions

FixedShapes = Literal["auto", "on", "off"]
# Approximate number of points in the accuracy curve of a long run.
_VALIDATIONS = 50


@dataclass(frozen=True)
class RunContext:
    """The collection, the device and the folder of an experiment's runs.

    Attributes:
        folder: Folder of the runs and the results.
        origin: Name or path of the collection.
        accelerator: Accelerator of Fabric.
        precision: Floating-point precision of the training.
        progress: Whether to show progress bars.
        altered: Name of ``ALTERATIONS`` by which the crystals are altered, if any. The expert
            datasets of altered crystals are built when they are needed.
        fixed_shapes: Whether to train with batches of fixed shapes, see ``train_fixed_shapes``.
            ``auto`` does so on a GPU if the network and the crystals allow it.
        deadline: Value of ``time.monotonic()`` after which no run and no epoch starts.
    """

    folder: Path
    origin: str = "perov-5"
    accelerator: str = "auto"
    precision: Precision = "32-true"
    progress: bool = True
    altered: str | None = None
    fixed_shapes: FixedShapes = "auto"
    deadline: float = math.inf

    @cached_property
    def _original(self) -> CrystalCollection:
        return load_collection(self.origin, progress=self.progress)

    @cached_property
    def collection(self) -> CrystalCollection:
        """The collection, altered if ``altered`` is set."""
        return ALTERATIONS[self.altered](self._original) if self.altered else self._original

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the collection before it is altered."""
        return self._original.fingerprint()

    @cached_property
    def validation(self) -> "Transitions":
        """All expert transitions of the val split."""
        return self.transitions("val")

    def transitions(
        self, split: str, trajectories: int | None = None, seed: int = 0
    ) -> "Transitions":
        """Load the expert's transitions of a split.

        Args:
            split: ``train``, ``val`` or ``test``.
            trajectories: Trajectories for each crystal; ``None`` loads all of them.
            seed: Seed of the choice of trajectories.

        Raises:
            MissingDataError: If the dataset is not built.
        """
        if self.altered:
            name = dataset_id(self.collection.name, split)
            if not get_dataset_path(name).is_dir():
                build_dataset(self.collection, split, progress=self.progress)
        return load_split(
            self.collection,
            self.origin,
            split,
            trajectories=trajectories,
            seed=seed,
            progress=self.progress,
        )

    def learn(
        self, variant: str, run: Path, recipe: Recipe, *, trajectories: int, seed: int
    ) -> ReproductionRecord:
        """Train a policy, or resume its run from the last checkpoint, and evaluate it.

        Args:
            variant: Name of the variant.
            run: Folder of the checkpoint, the history and the policy.
            recipe: The network and its training.
            trajectories: Expert trajectories for each crystal.
            seed: Seed of the run and of the choice of trajectories.

        Raises:
            CrystalGymError: If the folder contains a run with other settings, or if the run cannot
                have the requested batches of fixed shapes.
            MissingDataError: If the expert datasets are not built.
            TimeLimitError: If the deadline prevents the run or ends it before its last epoch.
        """
        self._require_time(run.name)
        data = self.transitions("train", trajectories, seed)
        config = TrainingConfig(
            run=run,
            recipe=recipe,
            seed=seed,
            validate_every=max(1, recipe.epochs // _VALIDATIONS),
            accelerator=self.accelerator,
            precision=self.precision,
            deadline=self.deadline,
            provenance=self.training_provenance(data, trajectories),
        )
        device = make_fabric(config).device
        loop = train_fixed_shapes if self._has_fixed_shapes(config, data, device) else train
        policy = loop(config, data, self.validation, progress=self.progress)
        training = policy.config.training
        # Training returns the policy on the CPU.
        metrics = self.test_metrics(variant, policy.to(device))
        return self.training_record(
            run,
            variant=variant,
            seed=seed,
            epochs=training["epochs"],
            network=recipe.network,
            trajectories=trajectories,
            transitions=len(data),
            precision=self.precision,
            metrics=metrics,
            seconds=training["seconds"],
            **provenance(device),
        )

    def _has_fixed_shapes(
        self, config: TrainingConfig, data: "Transitions", device: torch.device
    ) -> bool:
        if self.fixed_shapes == "auto":
            is_gpu = device.type == "cuda"
            return is_gpu and fixed_shapes_problem(config, data, self.validation) is None
        return self.fixed_shapes == "on"

    def _require_time(self, run: str) -> None:
        if time.monotonic() >= self.deadline:
            raise TimeLimitError(f"The time limit is reached before the run {run}.")

    def training_record(
        self, run: Path, *, epochs: int, transitions: int, seconds: float, **fields: Any
    ) -> ReproductionRecord:
        """Return the record of a finished training.

        Args:
            run: Folder with the history of the training.
            epochs: Passes over the transitions.
            transitions: Number of training transitions.
            seconds: Time of the training.
            fields: The other fields of the record, except those of the collection and the curve.
        """
        return self._record(
            epochs=epochs,
            transitions=transitions,
            seconds=seconds,
            curve=_read_curve(run / HISTORY_FILE),
            transitions_per_second=round(transitions * epochs / max(seconds, 0.1), 1),
            **fields,
        )

    @property
    def canonical_origin(self) -> str:
        """Name of the collection, or its absolute path."""
        return canonical_origin(self.origin)

    def training_provenance(self, data: "Transitions", trajectories: int) -> dict[str, Any]:
        """Return what a policy records about its training data."""
        return {
            # Altered crystals are others than those of the origin.
            "collection": self.collection.name if self.altered else self.canonical_origin,
            "split_by": "origin",
            "data": data.dataset_id,
            "trajectories": trajectories,
        }

    def test_metrics(self, variant: str, policy: SkeletonPolicy) -> dict[str, MeanWithCI]:
        """Return the metrics of a policy on the test split."""
        report = evaluate(
            {variant: [policy]}, self.collection, baselines=False, progress=self.progress
        )
        return report.rows[variant].metrics

    def evaluate_uniform(self, variant: str, seed: int) -> ReproductionRecord:
        """Evaluate the uniform baseline, which chooses all elements with equal probability.

        Args:
            variant: Name of the variant.
            seed: Seed of the choices.

        Raises:
            TimeLimitError: If the deadline prevents the run.
        """
        self._require_time(f"{variant}-seed-{seed}")
        report = evaluate({}, self.collection, seed=seed, progress=self.progress)
        return self._record(
            variant=variant,
            seed=seed,
            epochs=0,
            network=None,
            trajectories=0,
            transitions=0,
            precision=None,
            metrics=report.rows["uniform"].metrics,
            curve=None,
            seconds=0.0,
            transitions_per_second=0.0,
            **provenance(torch.device("cpu")),
        )

    def _record(self, **run: Any) -> ReproductionRecord:
        return ReproductionRecord(
            **run,
            collection=self.canonical_origin,
            collection_sha256=self.sha256,
            n_crystals=len(self.collection.in_split("test")),
        )


def _read_curve(path: Path) -> AccuracyCurve:
    """Read the validated epochs of a run's history."""
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["val_accuracy"]]
        return AccuracyCurve(
            [int(row["epoch"]) for row in rows],
            [round(float(row["train_accuracy"]), 6) for row in rows],
            [round(float(row["val_accuracy"]), 6) for row in rows],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(
            f"Expected a training history in {path}, got a missing or damaged file "
            f"({type(error).__name__}: {error}). Delete {path.parent} to repeat the run."
        ) from error
