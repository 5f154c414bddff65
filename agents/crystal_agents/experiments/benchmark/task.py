"""Benchmark task: one reward on one collection, and the evaluation of methods on it."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from crystal_agents.evaluation.metrics import compositions, is_novel
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

# Points of a learning curve: (environment steps, mean return on the val split).
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class RunResult:
    """Result of a method's run on a task.

    Attributes:
        score: Scorer that fills crystals.
        curve: Learning curve; empty if the method does not learn in the environment.
        oracle_calls: Oracle calls before each point of the learning curve; without a curve, their
            total number alone. See ``CountedReward``.
    """

    score: Scorer
    curve: Curve = field(default_factory=list)
    oracle_calls: list[int] = field(default_factory=lambda: [0])


@dataclass(frozen=True)
class BenchmarkTask:
    """One reward of a benchmark.

    Attributes:
        config: The benchmark config.
        reward_name: Name of the reward.
        folder: Folder of the checkpoints of offline learners.
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
        """The collection."""
        return self.table.collection

    @cached_property
    def reward(self) -> Reward:
        """The reward, shared by all runs so that they also share its cache."""
        reward = resolve_reward(self.reward_name)
        reward.prepare(self.table)
        return reward

    @cached_property
    def generator(self) -> InstanceGenerator:
        """Generator of the training skeletons on which the methods learn."""
        return InstanceGenerator(
            collection=self.config.collection, split="train", vocabulary=self.policy.vocabulary
        )

    @property
    def table(self) -> EpisodeTable:
        """All crystals of the collection, in the vocabulary of the policy."""
        return self.generator.table

    @cached_property
    def known_compositions(self) -> set[tuple[int, ...]]:
        """Compositions of the training crystals."""
        train = self.collection.atomic_numbers[self.collection.in_split("train")]
        return compositions(train)

    def environment(self, mask: str, reward: Reward | None = None) -> CrystalSkeletonVectorEnv:
        """Return an environment of the training skeletons for Stable-Baselines3.

        Args:
            mask: Name of the action mask.
            reward: The reward of the task, if its oracle calls are counted.
        """
        return CrystalSkeletonVectorEnv(
            self.config.num_envs,
            autoreset_mode="SameStep",
            generator=self.generator,
            reward=self.reward if reward is None else reward,
            mask=mask,
        )

    def measure(
        self, score: Scorer, split: str, mask: str = "none", crystals: int | None = None
    ) -> dict[str, float]:
        """Fill each crystal of a split greedily from one start site and average the metrics.

        Args:
            score: The scorer to evaluate. The element with the highest score is chosen.
            split: ``val`` or ``test``.
            mask: Name of the action mask; the elements that it forbids are not chosen.
            crystals: Maximum number of crystals, evenly spaced over the split; ``None`` takes all.

        Returns:
            ``return`` and the components of the reward, in the units of the reward, each averaged
            over the crystals where it is defined; ``NAME/n_missing``, the number of the other
            crystals, if there are any; ``validity_strict``; ``unique``, the fraction of distinct
            fillings; ``novel``, the fraction of fillings whose composition no training crystal has.
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
            "novel": float(is_novel(numbers, self.known_compositions).mean()),
        }
