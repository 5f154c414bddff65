"""``crystal-gym train-offline NAME``: train a policy on a behavior dataset and its rewards."""

import dataclasses
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import tyro

from crystal_agents.cli.command import RESUMES, Command, console
from crystal_agents.training.loggers import LoggerName
from crystal_agents.training.recipes import get_recipe

if TYPE_CHECKING:
    from crystal_agents.policies.policy import SkeletonPolicy
    from crystal_agents.training.config import TrainingConfig
    from crystal_datasets.transitions import Transitions


@dataclass
class TrainOffline(Command):
    """Train a policy on a behavior dataset and its rewards, without the environment.

    Reads the train dataset that `crystal-gym build-dataset --behavior … --reward …` has written.
    Rerun the same command to resume from the last checkpoint.
    """

    after_stop: ClassVar[str] = RESUMES

    name: tyro.conf.Positional[str]
    """The collection: a name from `crystal-gym list`, or the path given to `build-dataset`."""

    algorithm: Literal["cql", "bc"] = "cql"
    """cql: conservative Q-learning (discrete, by TorchRL); bc: behavioral cloning of the episodes
    with the highest returns, see --top-fraction."""

    behavior: str = "mixed"
    """Behavior policy of the dataset: expert, random, mixed or replay."""

    reward: str = "match"
    """Reward of the dataset."""

    top_fraction: float = 1.0
    """For bc: fraction of the episodes to clone, those with the highest returns."""

    alpha: float | None = None
    """For cql: weight of the conservative term relative to the temporal-difference loss."""

    recipe: str = "egnn"
    """The network, the batch size and the optimizer, as in `crystal-gym train`."""

    split_by: str = "origin"
    """The splits, as in `build-dataset`: origin, composition, prototype, random:SEED or a file."""

    on_error: Literal["raise", "skip"] = "raise"
    """Stop at crystals that cannot be read, or leave them out with a warning."""

    run_folder: Path | None = None
    """Folder of checkpoint, history and policy (default:
    runs/NAME-BEHAVIOR-REWARD-ALGORITHM-RECIPE-seed-SEED, without REWARD for match, and with
    -top-FRACTION after ALGORITHM for a top fraction below 1)."""

    seed: int = 0
    """Seed of the weights, the batches, and the choice among episodes of equal return."""

    epochs: int | None = None
    """Passes over the transitions (default: the recipe's; for cql at least 10)."""

    learning_rate: float | None = None
    """Peak learning rate (default: the recipe's)."""

    checkpoint_seconds: float = 60.0
    """Time between checkpoints, in seconds."""

    accelerator: str = "auto"
    """Device type: cpu, cuda, mps or auto."""

    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Floating-point precision."""

    logger: tuple[LoggerName, ...] = ()
    """Also log the metrics of each epoch with TensorBoard or Weights & Biases (package wandb)."""

    def run(self) -> None:
        """Train the policy; print its mean return and its folder."""
        self._check()
        from crystal_agents.evaluation.returns import greedy_returns, nan_means
        from crystal_agents.policies.policy import PolicyScorer
        from crystal_agents.training.config import TrainingConfig
        from crystal_agents.training.data import load_split
        from crystal_agents.training.recipes import cloning_recipe, value_recipe
        from crystal_datasets import best_episodes
        from crystal_gym.collections import (
            canonical_origin,
            canonical_split_by,
            load_collection,
        )
        from crystal_gym.episode import EpisodeTable
        from crystal_gym.rewards import REWARDS, resolve_reward

        collection = load_collection(self.name, split_by=self.split_by, on_error=self.on_error)
        data = load_split(
            collection,
            self.name,
            "train",
            split_by=self.split_by,
            behavior=self.behavior,
            reward=self.reward,
        )
        recipe = get_recipe(self.recipe)
        recipe = value_recipe(recipe) if self.algorithm == "cql" else cloning_recipe(recipe)
        changes = {"epochs": self.epochs, "learning_rate": self.learning_rate}
        recipe = dataclasses.replace(recipe, **{k: v for k, v in changes.items() if v is not None})
        folder = self.run_folder or Path("runs") / self._run_name(collection.name)
        config = TrainingConfig(
            run=folder,
            recipe=recipe,
            seed=self.seed,
            checkpoint_seconds=self.checkpoint_seconds,
            accelerator=self.accelerator,
            precision=self.precision,
            loggers=self.logger,
            provenance={
                "collection": canonical_origin(self.name),
                "split_by": canonical_split_by(self.split_by),
                "data": data.dataset_id,
                **({"top_fraction": self.top_fraction} if self.algorithm == "bc" else {}),
            },
        )
        chosen = best_episodes(data, self.top_fraction, self.seed)
        policy = self._train(config, chosen)
        out = console()
        out.print(f"Mean return of all {len(data.returns):,} episodes: {data.returns.mean():.4f}.")
        if self.algorithm == "bc" and self.top_fraction < 1:
            out.print(
                f"Mean return of the {len(chosen.returns):,} cloned episodes: "
                f"{chosen.returns.mean():.4f}."
            )
        if self.reward in REWARDS and len(collection.in_split("val")):
            table = EpisodeTable(collection, policy.vocabulary)
            episodes = greedy_returns(
                PolicyScorer(policy, table),
                table,
                collection.in_split("val"),
                resolve_reward(self.reward),
                n_start_sites=5,
            )
            means, n_missing = nan_means(episodes.metrics)
            out.print(f"Mean return of the greedy policy on val: {means['return']:.4f}.")
            if "return" in n_missing:
                out.print(
                    f"The return of {n_missing['return']:,} of {len(episodes.crystal):,} episodes "
                    "is NaN; they are left out of the mean."
                )
        out.print(f"Policy: {folder}", soft_wrap=True)

    def _check(self) -> None:
        """Raise an error for options of the other algorithm, or if TorchRL is missing."""
        from crystal_datasets.behaviors import BEHAVIOR_NAMES
        from crystal_gym.errors import CrystalGymError, UnknownNameError

        if self.behavior not in BEHAVIOR_NAMES:
            raise UnknownNameError("behavior policy", self.behavior, BEHAVIOR_NAMES)
        if self.algorithm == "cql" and self.top_fraction != 1:
            raise CrystalGymError(
                "Expected --top-fraction with --algorithm bc, got --algorithm cql, which learns "
                "from all episodes. Leave --top-fraction out."
            )
        if self.algorithm == "bc" and self.alpha is not None:
            raise CrystalGymError(
                "Expected --alpha with --algorithm cql, got --algorithm bc. Leave --alpha out."
            )
        if self.algorithm == "cql":
            importlib.import_module("torchrl")

    def _run_name(self, collection: str) -> str:
        reward = "" if self.reward == "match" else f"-{self.reward}"
        top = "" if self.top_fraction == 1 else f"-top-{self.top_fraction:g}"
        middle = f"{self.behavior}{reward}-{self.algorithm}{top}"
        return f"{collection}-{middle}-{self.recipe}-seed-{self.seed}"

    def _train(self, config: "TrainingConfig", data: "Transitions") -> "SkeletonPolicy":
        if self.algorithm == "bc":
            from crystal_agents.training.behavioral_cloning import train

            return train(config, data)
        from crystal_agents.training.cql import CQLConfig, train_cql

        cql = CQLConfig() if self.alpha is None else CQLConfig(alpha=self.alpha)
        return train_cql(config, cql, data)
