"""The runs of an experiment: learned or drawn at random, measured once on the test split."""

import csv
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning_fabric import Fabric
from minari.storage import get_dataset_path

from crystal_agents.evaluation.evaluate import evaluate
from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments.provenance import hardware, versions
from crystal_agents.experiments.reproduction.results import Curve, Record
from crystal_agents.experiments.reproduction.site_order import shuffled_sites
from crystal_agents.training.behavioral_cloning import train
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.loop import HISTORY_FILE
from crystal_agents.training.recipes import Recipe
from crystal_datasets import build_dataset, dataset_id, load_transitions
from crystal_gym.collections import canonical_origin, load_collection
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.errors import DamagedFileError, MissingDataError

if TYPE_CHECKING:
    from crystal_datasets.transitions import Transitions

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
# Validations of a run, however many epochs it has: points of its curve.
_VALIDATIONS = 50


@dataclass(frozen=True)
class RunContext:
    """Where the runs of an experiment take place: the crystals, the machine, the folder.

    Attributes:
        folder: of the runs and the results.
        source: the collection, a name or a path.
        accelerator: Fabric's accelerator.
        precision: Fabric's precision.
        progress: show progress bars.
        shuffled: the sites of every crystal are numbered at random; the data sets of these
            crystals are built when they are needed.
    """

    folder: Path
    origin: str = "perov-5"
    accelerator: str = "auto"
    precision: Precision = "32-true"
    progress: bool = True
    shuffled: bool = False

    @cached_property
    def _as_in_source(self) -> CrystalCollection:
        return load_collection(self.origin, progress=self.progress)

    @cached_property
    def collection(self) -> CrystalCollection:
        """The crystals."""
        return shuffled_sites(self._as_in_source) if self.shuffled else self._as_in_source

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the crystals, which are the same in whatever order their sites are."""
        return self._as_in_source.fingerprint()

    @cached_property
    def validation(self) -> "Transitions":
        """All transitions of the val split."""
        return self.transitions("val")

    def transitions(
        self, split: str, trajectories: int | None = None, seed: int = 0
    ) -> "Transitions":
        """The expert's transitions.

        Raises:
            MissingDataError: the data set is not built.
        """
        name = dataset_id(self.collection.name, split)
        if self.shuffled and not get_dataset_path(name).is_dir():
            build_dataset(self.collection, split, progress=self.progress)
        try:
            return load_transitions(name, trajectories, seed, progress=self.progress)
        except MissingDataError as error:
            raise MissingDataError(
                f"The data set {name} is not built yet: run `crystal-gym build-dataset {self.origin}` "
                "first."
            ) from error

    def learn(
        self, variant: str, run: Path, recipe: Recipe, *, trajectories: int, seed: int
    ) -> Record:
        """Train a policy, or go on where its run was stopped, and measure it.

        TrainingConfig:
            column: the record's.
            run: folder of the checkpoint, the history and the policy.
            recipe: the network and how it is trained.
            trajectories: of each crystal to learn from.
            seed: of the run, and of the draw of trajectories.

        Raises:
            CrystalGymError: the run's folder holds another run, or the data sets are not built.
        """
        data = self.transitions("train", trajectories, seed)
        args = TrainingConfig(
            run=run,
            recipe=recipe,
            seed=seed,
            validate_every=max(1, recipe.epochs // _VALIDATIONS),
            accelerator=self.accelerator,
            precision=self.precision,
            provenance={
                "collection": canonical_origin(self.origin),
                "split_by": "origin",
                "data": data.dataset_id,
                "trajectories": trajectories,
            },
        )
        policy = train(args, data.vocabulary, data, self.validation, progress=self.progress)
        training = policy.config.training
        # The trained policy is handed back on the CPU.
        device = Fabric(accelerator=self.accelerator, devices=1).device
        report = evaluate(
            {variant: [policy.to(device)]}, self.collection, baselines=False, progress=self.progress
        )
        return self._record(
            variant=variant,
            seed=seed,
            epochs=training["epochs"],
            network=recipe.network,
            trajectories=trajectories,
            transitions=len(data),
            precision=self.precision,
            metrics=report.rows[variant].metrics,
            curve=_curve(run / HISTORY_FILE),
            seconds=training["seconds"],
            transitions_per_second=round(
                len(data) * training["epochs"] / max(training["seconds"], 0.1), 1
            ),
            hardware=hardware(device),
        )

    def draw_uniformly(self, variant: str, seed: int) -> Record:
        """Measure the rule to which all elements are equally likely."""
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
            hardware=hardware(torch.device("cpu")),
        )

    def _record(self, *, metrics: dict[str, MeanWithCI], **run: Any) -> Record:
        return Record(
            **run,
            metrics=metrics,
            collection=canonical_origin(self.origin),
            collection_sha256=self.sha256,
            n_crystals=len(self.collection.in_split("test")),
            versions=versions(),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def _curve(path: Path) -> Curve:
    """The validated epochs of a run's history."""
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["val_accuracy"]]
        return Curve(
            [int(row["epoch"]) for row in rows],
            [round(float(row["train_accuracy"]), 6) for row in rows],
            [round(float(row["val_accuracy"]), 6) for row in rows],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(
            f"{path} is missing or damaged ({type(error).__name__}). Delete {path.parent} to run "
            "it anew."
        ) from error
