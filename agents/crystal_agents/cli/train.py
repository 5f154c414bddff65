"""``crystal-gym train NAME``: clone the expert of a collection into a policy."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import tyro

from crystal_agents.cli.command import Command, console
from crystal_agents.training.recipes import get_recipe

if TYPE_CHECKING:
    from crystal_agents.training.recipes import Recipe
    from crystal_datasets.transitions import Transitions


@dataclass
class Train(Command):
    """Train a policy by behavioral cloning on the expert data set of a collection.

    Reads the data sets expert-train and expert-val that `crystal-gym build-dataset` has written. A stopped
    run goes on from its last checkpoint when the same command is given again.
    """

    after_stop: ClassVar[str] = (
        "The same command goes on from the last checkpoint, if there is one yet."
    )

    name: tyro.conf.Positional[str]
    """The collection: a name from `crystal-gym list`, or the path that was built."""

    recipe: str = "egnn"
    """The network and how it is trained: egnn, egnn-indexed, egnn-augmented,
    egnn-indexed-augmented, egnn-paper, gcn or dimenet."""

    split_by: Literal["origin", "composition"] = "origin"
    """The source's own splits, or splits anew where all crystals of one composition stand in one;
    as it was built."""

    run_folder: Path | None = None
    """Folder of checkpoint, history and policy (default: runs/NAME-RECIPE-seed-SEED; split by
    composition: runs/NAME-by-composition-RECIPE-seed-SEED)."""

    trajectories: int = 5
    """Expert trajectories of each crystal to learn from."""

    seed: int = 0
    """Of the weights, the batches, and the trajectories where fewer are used than there are."""

    epochs: int | None = None
    """Passes over the transitions (default: the recipe's)."""

    learning_rate: float | None = None
    """Highest learning rate (default: the recipe's)."""

    validate_every: int = 5
    """Epochs between validations on the val split."""

    patience: int = 0
    """Stop after so many validations without improvement and keep the best weights; 0: never."""

    checkpoint_seconds: float = 60.0
    """Time between checkpoints."""

    accelerator: str = "auto"
    """Where to train: cpu, cuda, mps or auto."""

    devices: int = 1
    """Number of processes, each with a device of its own."""

    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Floating-point arithmetic."""

    tensorboard: bool = False
    """Write TensorBoard events beside metrics.csv."""

    def run(self) -> None:
        """Train, and say where the policy lies."""
        recipe = self._recipe()
        from lightning_fabric.utilities.rank_zero import rank_zero_only

        from crystal_agents.synthetic import SyntheticGenerator
        from crystal_agents.training.behavioral_cloning import train
        from crystal_agents.training.config import TrainingConfig
        from crystal_datasets.minari_writer import dataset_id
        from crystal_gym.collections import canonical_origin, load_collection
        from crystal_gym.errors import MissingDataError

        collection = load_collection(self.name, split_by=self.split_by).name
        name = dataset_id(collection, "train")
        data = self._load(name, self.trajectories)
        try:
            validation = self._load(dataset_id(collection, "val"))
        except MissingDataError:
            validation = None
        folder = self.run_folder or Path("runs") / f"{collection}-{self.recipe}-seed-{self.seed}"
        args = TrainingConfig(
            run=folder,
            recipe=recipe,
            seed=self.seed,
            validate_every=self.validate_every,
            patience=self.patience,
            checkpoint_seconds=self.checkpoint_seconds,
            accelerator=self.accelerator,
            devices=self.devices,
            precision=self.precision,
            tensorboard=self.tensorboard,
            provenance={
                "collection": canonical_origin(self.name),
                "split_by": self.split_by,
                "data": name,
                "trajectories": self.trajectories,
            },
        )
        synthetic = SyntheticGenerator(data).crystals() if recipe.synthetic else None
        policy = train(args, data.vocabulary, data, validation, synthetic)
        if rank_zero_only.rank:  # one of several processes tells the result
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

    def _recipe(self) -> "Recipe":
        changes = {
            key: value
            for key in ("epochs", "learning_rate")
            if (value := getattr(self, key)) is not None
        }
        return dataclasses.replace(get_recipe(self.recipe), **changes)

    def _load(self, name: str, trajectories: int | None = None) -> "Transitions":
        from crystal_datasets import load_transitions
        from crystal_gym.errors import MissingDataError

        try:
            return load_transitions(name, trajectories, self.seed)
        except MissingDataError as error:
            split_by = "" if self.split_by == "origin" else f" --split-by {self.split_by}"
            raise MissingDataError(
                f"The data set {name} is not built yet: run `crystal-gym build-dataset {self.name}"
                f"{split_by}` first."
            ) from error
