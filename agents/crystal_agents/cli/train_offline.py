"""``crystal-gym train-offline NAME``: learn a policy from the rewards in a behavior data set."""

import dataclasses
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import tyro

from crystal_agents.cli.command import Command, console
from crystal_agents.training.recipes import get_recipe

if TYPE_CHECKING:
    from crystal_agents.policies.policy import SkeletonPolicy
    from crystal_agents.training.config import TrainingConfig
    from crystal_datasets.transitions import Transitions


@dataclass
class TrainOffline(Command):
    """Learn a policy from a behavior data set and its rewards, without the environment.

    Reads the train data set that `crystal-gym build-dataset --behavior … --reward …` has written. A
    stopped run goes on from its last checkpoint when the same command is given again.
    """

    after_stop: ClassVar[str] = (
        "The same command goes on from the last checkpoint, if there is one yet."
    )

    name: tyro.conf.Positional[str]
    """The collection: a name from `crystal-gym list`, or the path that was built."""

    algorithm: Literal["cql", "bc"] = "cql"
    """cql: conservative Q-learning (discrete, by torchrl); bc: behavioral cloning of the episodes
    with the highest returns, see --top."""

    behavior: str = "mixed"
    """Whose episodes: expert, random, mixed or replay."""

    reward: str = "match"
    """The reward with which they were built."""

    top_fraction: float = 1.0
    """For bc: the fraction of the episodes to clone, those with the highest returns."""

    alpha: float | None = None
    """For cql: weight of the conservative term beside the temporal difference."""

    recipe: str = "egnn"
    """The network, the size of its batches and the optimizer, as in `crystal-gym train`."""

    split_by: Literal["origin", "composition"] = "origin"
    """As the data set was built."""

    run_folder: Path | None = None
    """Folder of checkpoint, history and policy (default:
    runs/NAME-BEHAVIOUR-REWARD-ALGORITHM-RECIPE-seed-SEED; match and a top of 1 are left out)."""

    seed: int = 0
    """Of the weights, the batches, and the lot among episodes of equal return."""

    epochs: int | None = None
    """Passes over the transitions (default: the recipe's; for cql at least 10)."""

    learning_rate: float | None = None
    """Highest learning rate (default: the recipe's)."""

    checkpoint_seconds: float = 60.0
    """Time between checkpoints."""

    accelerator: str = "auto"
    """Where to train: cpu, cuda, mps or auto."""

    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Floating-point arithmetic."""

    def run(self) -> None:
        """Learn, and say what the policy earns and where it lies."""
        self._check()
        from crystal_agents.evaluation.returns import greedy_mean_return
        from crystal_agents.training.config import TrainingConfig
        from crystal_agents.training.recipes import cloning_recipe, value_recipe
        from crystal_datasets import best_episodes, dataset_id
        from crystal_gym.collections import canonical_origin, load_collection
        from crystal_gym.rewards import REWARDS, resolve_reward

        collection = load_collection(self.name, split_by=self.split_by)
        data_name = dataset_id(collection.name, "train", self.behavior, self.reward)
        data = self._load(data_name)
        recipe = get_recipe(self.recipe)
        recipe = value_recipe(recipe) if self.algorithm == "cql" else cloning_recipe(recipe)
        changes = {"epochs": self.epochs, "learning_rate": self.learning_rate}
        recipe = dataclasses.replace(recipe, **{k: v for k, v in changes.items() if v is not None})
        folder = self.run_folder or Path("runs") / self._run_name(collection.name)
        args = TrainingConfig(
            run=folder,
            recipe=recipe,
            seed=self.seed,
            checkpoint_seconds=self.checkpoint_seconds,
            accelerator=self.accelerator,
            precision=self.precision,
            provenance={
                "collection": canonical_origin(self.name),
                "split_by": self.split_by,
                "data": data_name,
                **({"top_fraction": self.top_fraction} if self.algorithm == "bc" else {}),
            },
        )
        chosen = best_episodes(data, self.top_fraction, self.seed)
        policy = self._learn(args, chosen)
        out = console()
        out.print(f"Mean return of the {len(data.returns):,} episodes: {data.returns.mean():.4f}.")
        if self.algorithm == "bc" and self.top_fraction < 1:
            told = f"{len(chosen.returns):,} that were cloned: {chosen.returns.mean():.4f}"
            out.print(f"Mean return of the {told}.")
        if self.reward in REWARDS and len(collection.in_split("val")):
            earned = greedy_mean_return(policy, collection, "val", resolve_reward(self.reward))
            out.print(f"Mean return of the policy's first choices on val: {earned:.4f}.")
        out.print(f"Policy: {folder}", soft_wrap=True)

    def _check(self) -> None:
        """Refuse what belongs to the other algorithm, and a missing torchrl before any work."""
        from crystal_datasets.behaviors import BEHAVIOR_NAMES
        from crystal_gym.errors import CrystalGymError, UnknownNameError

        if self.behavior not in BEHAVIOR_NAMES:
            raise UnknownNameError("behavior", self.behavior, BEHAVIOR_NAMES)
        if self.algorithm == "cql" and self.top_fraction != 1:
            raise CrystalGymError(
                "--top-fraction is for --algorithm bc; CQLConfig learns from all episodes."
            )
        if self.algorithm == "bc" and self.alpha is not None:
            raise CrystalGymError("--alpha is for --algorithm cql.")
        if self.algorithm == "cql":
            importlib.import_module("torchrl")

    def _run_name(self, collection: str) -> str:
        reward = "" if self.reward == "match" else f"-{self.reward}"
        top_fraction = "" if self.top_fraction == 1 else f"-top-{self.top_fraction:g}"
        middle = f"{self.behavior}{reward}-{self.algorithm}{top_fraction}"
        return f"{collection}-{middle}-{self.recipe}-seed-{self.seed}"

    def _learn(self, args: "TrainingConfig", data: "Transitions") -> "SkeletonPolicy":
        if self.algorithm == "bc":
            from crystal_agents.training.behavioral_cloning import train

            return train(args, data.vocabulary, data)
        from crystal_agents.training.cql import CQLConfig, train_cql

        return train_cql(
            args, CQLConfig() if self.alpha is None else CQLConfig(alpha=self.alpha), data
        )

    def _load(self, name: str) -> "Transitions":
        from crystal_datasets import load_transitions
        from crystal_gym.errors import MissingDataError

        try:
            return load_transitions(name)
        except MissingDataError as error:
            split_by = "" if self.split_by == "origin" else f" --split-by {self.split_by}"
            if self.behavior == "replay":
                told = f"finetune POLICY --collection {self.name} --reward {self.reward} --record"
            else:
                told = f"build {self.name} --behavior {self.behavior} --reward {self.reward}"
                told += " --splits train"
                told += " --policy POLICY" if self.behavior == "mixed" else ""
            raise MissingDataError(
                f"The data set {name} is not there yet: run `crystal-gym {told}{split_by}` first."
            ) from error
