"""Where contestants meet: one reward, the crystals, and how fillings are measured."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from crystal_agents.benchmark.plan import Plan
from crystal_agents.evaluation import composition
from crystal_agents.fillings import figures_of, fill_groups, means_of, spread_over
from crystal_agents.policy import SkeletonPolicy, load_policy
from crystal_agents.rollouts import Scorer, groups_of
from crystal_gym.collection import CrystalCollection
from crystal_gym.episode import EpisodeTable
from crystal_gym.generator import InstanceGenerator
from crystal_gym.masks import resolve_mask
from crystal_gym.rewards import Reward, resolve_reward
from crystal_gym.validity import is_valid
from crystal_gym.vector_env import CrystalSkeletonVectorEnv


@dataclass(frozen=True)
class Arena:
    """One reward of a plan.

    Attributes:
        plan: what is compared.
        reward_name: of the reward.
        folder: for data sets and checkpoints.
    """

    plan: Plan
    reward_name: str
    folder: Path

    @cached_property
    def policy(self) -> SkeletonPolicy:
        """The cloned policy."""
        return load_policy(self.plan.policy)

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
            collection=self.plan.collection, split="train", vocabulary=self.policy.vocabulary
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
            self.plan.num_envs,
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
            ``return``; the reward's components, NaN left out; ``validity_strict``; ``unique``, the
            share of distinct fillings; ``novel``, the share whose composition no training crystal
            has.
        """
        rows = self.collection.in_split(split)
        if crystals is not None:
            rows = spread_over(rows, crystals)
        groups = groups_of(self.table, rows, n_sources=1)
        crystal, elements = fill_groups(self.table, groups, score, resolve_mask(mask))
        figures = figures_of(self.table, crystal, elements, self.reward)
        numbers = self.table.vocabulary.decode(elements)
        return {
            **means_of(figures),
            "validity_strict": float(is_valid(numbers, "strict").mean()),
            "unique": len(np.unique(elements, axis=0)) / len(elements),
            "novel": float(np.mean([composition(row) not in self.known for row in numbers])),
        }
