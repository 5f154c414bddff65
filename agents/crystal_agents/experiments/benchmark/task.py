"""Where contestants meet: one reward, the crystals, and how fillings are measured."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystal_agents.evaluation.metrics import composition
from crystal_agents.evaluation.returns import evenly_spaced, greedy_returns, nan_means
from crystal_agents.experiments.benchmark.config import BenchmarkConfig
from crystal_agents.policies.policy import SkeletonPolicy, load_policy
from crystal_agents.rollouts.rollout import Scorer
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.validity import is_valid
from crystal_gym.envs.generator import InstanceGenerator
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode import EpisodeTable
from crystal_gym.masks import resolve_mask
from crystal_gym.rewards import Reward, resolve_reward

if TYPE_CHECKING:
    from crystal_agents.policies.policy import SkeletonPolicy


@dataclass(frozen=True)
class BenchmarkTask:
    """One reward of a plan.

    Attributes:
        plan: what is compared.
        reward_name: of the reward.
        folder: for data sets and checkpoints.
    """

    config: BenchmarkConfig
    reward_name: str
    folder: Path

    @cached_property
    def policy(self) -> SkeletonPolicy:
        """The cloned policy."""
        return load_policy(self.config.policy)

    @property
    def collection(self) -> CrystalCollection:
        """The crystals."""
        return self.table.collection

    @cached_property
    def reward(self) -> Reward:
        """One object for all runs: what it remembers serves all of them."""
        reward = resolve_reward(self.reward_name)
        reward.prepare(self.table)
        return reward

    @cached_property
    def skeletons(self) -> InstanceGenerator:
        """Those of train, from which learners draw."""
        return InstanceGenerator(
            collection=self.config.collection, split="train", vocabulary=self.policy.vocabulary
        )

    @property
    def table(self) -> EpisodeTable:
        """The crystals in the policy's vocabulary."""
        return self.skeletons.table

    @cached_property
    def known(self) -> set[tuple[int, ...]]:
        """The compositions of the training crystals."""
        train = self.collection.atomic_numbers[self.collection.in_split("train")]
        return {composition(row) for row in train}

    def environment(self, mask: str) -> CrystalSkeletonVectorEnv:
        """Training skeletons, for learners of Stable-Baselines3."""
        return CrystalSkeletonVectorEnv(
            self.config.num_envs,
            autoreset_mode="SameStep",
            generator=self.skeletons,
            reward=self.reward,
            mask=mask,
        )

    def measure(
        self, score: Scorer, split: str, mask: str = "none", crystals: int | None = None
    ) -> dict[str, float]:
        """Means over the crystals of a split, each filled greedily from one drawn site.

        Args:
            score: who fills; the element with the highest score is taken.
            split: ``val`` or ``test``.
            mask: elements that it forbids are not taken.
            crystals: at most so many, spread evenly over the split.

        Returns:
            ``return`` and the reward's components, NaN left out and counted as
            ``NAME/n_missing``; ``validity_strict``; ``unique``, the
            share of distinct fillings; ``novel``, the share whose composition no training crystal
            has.
        """
        rows = self.collection.in_split(split)
        if crystals is not None:
            rows = evenly_spaced(rows, crystals)
        episodes = greedy_returns(score, self.table, rows, self.reward, mask=resolve_mask(mask))
        elements = episodes.elements
        numbers = self.table.vocabulary.decode(elements)
        return {
            **nan_means(episodes.metrics).as_row(),
            "validity_strict": float(is_valid(numbers, "strict").mean()),
            "unique": len(np.unique(elements, axis=0)) / len(elements),
            "novel": float(np.mean([composition(row) not in self.known for row in numbers])),
        }


# (steps of the environment, mean return of val) while a contestant learns.
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Attributes:
        score: fills crystals.
        curve: empty where nothing was learned in the environment.
    """

    score: Scorer
    curve: Curve = field(default_factory=list)
