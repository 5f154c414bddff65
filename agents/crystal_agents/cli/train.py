"""``crystal-gym train NAME``: train a policy by behavioral cloning."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import tyro

from crystal_agents.cli.command import RESUMES, Command, console
from crystal_agents.cli.kept_sites import parse_keep
from crystal_agents.training.loggers import LoggerName
from crystal_agents.training.recipes import Recipe, get_recipe


@dataclass
class Train(Command):
    """Train a policy by behavioral cloning on the expert dataset of a collection.

    Reads the datasets expert-train and expert-val that `crystal-gym build-dataset` has written.
    Rerun the same command to resume from the last checkpoint.
    """

    after_stop: ClassVar[str] = RESUMES

    name: tyro.conf.Positional[str]
    """The collection: a name from `crystal-gym list`, or the path given to `build-dataset`."""

    recipe: str = "egnn"
    """The network and its training settings: egnn, egnn-indexed, egnn-augmented,
    egnn-indexed-augmented, egnn-large, egnn-indexed-large, egnn-paper, gcn, dimenet or mpnn."""

    target: tuple[str, ...] = ()
    """Labels of the collection, such as heat_all, for a conditional policy that can be asked for
    values of them; with the recipes egnn and egnn-indexed."""

    target_dropout: float = 0.1
    """Probability with which the labels of a crystal are dropped from a batch."""

    split_by: str = "origin"
    """The splits, as in `build-dataset`: origin, composition, prototype, random:SEED or a file."""

    on_error: Literal["raise", "skip"] = "raise"
    """Stop at crystals that cannot be read, or leave them out with a warning."""

    start: Literal["empty", "partial"] = "empty"
    """Read the datasets of empty skeletons, or those of `build-dataset --start partial`."""

    keep: str | None = None
    """For --start partial: --keep of `build-dataset` (default: 0.5)."""

    run_folder: Path | None = None
    """Folder of checkpoint, history and policy (default: runs/NAME-RECIPE-seed-SEED, with a NAME
    that contains the splits as in `build-dataset`, and the kept sites and the labels of targets
    after RECIPE)."""

    trajectories: int = 5
    """Expert trajectories for each crystal."""

    seed: int = 0
    """Seed of the weights, the batches, and the choice of trajectories."""

    epochs: int | None = None
    """Passes over the transitions (default: the recipe's)."""

    learning_rate: float | None = None
    """Peak learning rate (default: the recipe's)."""

    validate_every: int = 5
    """Epochs between validations on val."""

    patience: int = 0
    """Stop after this many validations without improvement and keep the best weights; 0: never."""

    checkpoint_seconds: float = 60.0
    """Time between checkpoints, in seconds."""

    accelerator: str = "auto"
    """Device type: cpu, cuda, mps or auto."""

    devices: int = 1
    """Number of processes, one device each."""

    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Floating-point precision."""

    logger: tuple[LoggerName, ...] = ()
    """Also log the metrics of each epoch with TensorBoard or Weights & Biases (package wandb)."""

    def run(self) -> None:
        """Train the policy and print its folder."""
        recipe = self._recipe()
        from lightning_fabric.utilities.rank_zero import rank_zero_only

        from crystal_agents.synthetic import SyntheticGenerator
        from crystal_agents.training.behavioral_cloning import train
        from crystal_agents.training.config import TrainingConfig
        from crystal_agents.training.data import load_split
        from crystal_datasets.task import DatasetTask
        from crystal_gym.collections import (
            canonical_origin,
            canonical_split_by,
            load_collection,
        )
        from crystal_gym.errors import MissingDataError

        collection = load_collection(self.name, split_by=self.split_by, on_error=self.on_error)
        task = DatasetTask.of(self.start, parse_keep(self.keep))
        options = {"split_by": self.split_by, "seed": self.seed, "task": task}
        data = load_split(collection, self.name, "train", trajectories=self.trajectories, **options)
        try:
            validation = load_split(collection, self.name, "val", **options)
        except MissingDataError:
            validation = None  # a collection may have no val split
        targets = validation_targets = None
        if self.target:
            from crystal_agents.training.targets import SkeletonTargets, standardized_labels

            targets = SkeletonTargets.from_labels(
                data, collection, self.target, self.target_dropout
            )
            if validation is not None:
                validation_targets = standardized_labels(validation, collection, targets.targets)
        labels = "".join(f"-{name}" for name in self.target)
        run_name = f"{collection.name}-{self.recipe}{task.name}{labels}-seed-{self.seed}"
        folder = self.run_folder or Path("runs") / run_name
        config = TrainingConfig(
            run=folder,
            recipe=recipe,
            seed=self.seed,
            validate_every=self.validate_every,
            patience=self.patience,
            checkpoint_seconds=self.checkpoint_seconds,
            accelerator=self.accelerator,
            devices=self.devices,
            precision=self.precision,
            loggers=self.logger,
            provenance={
                "collection": canonical_origin(self.name),
                "split_by": canonical_split_by(self.split_by),
                "data": data.dataset_id,
                "trajectories": self.trajectories,
                **task.settings(),
            },
        )
        synthetic = None
        if recipe.synthetic is not None:
            synthetic = SyntheticGenerator(data, recipe.synthetic).crystals()
        policy = train(
            config,
            data,
            validation,
            synthetic,
            targets=targets,
            validation_targets=validation_targets,
        )
        if rank_zero_only.rank:  # only the first of several processes prints the result
            return
        record = policy.config.training
        out = console()
        out.print(
            f"{record['epochs']} epochs of {len(data):,} transitions"
            + (f" and {len(synthetic):,} synthetic crystals" if synthetic else "")
            + f" in {record['seconds'] / 60:.1f} minutes of training."
        )
        if record["val_accuracy"] is not None:
            out.print(f"Teacher-forced accuracy on val: {record['val_accuracy']:.2%}.")
        out.print(f"Policy: {folder}", soft_wrap=True)

    def _recipe(self) -> Recipe:
        changes = {
            key: value
            for key in ("epochs", "learning_rate")
            if (value := getattr(self, key)) is not None
        }
        return dataclasses.replace(get_recipe(self.recipe), **changes)
