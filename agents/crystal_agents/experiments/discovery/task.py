"""The discovery task: an oracle with a budget that counts the distinct crystals it evaluates."""

from dataclasses import dataclass, field
from typing import cast

import numpy as np

from crystal_agents.experiments.discovery.criteria import Criteria
from crystal_agents.experiments.discovery.search_space import SearchSpace
from crystal_gym.episode import EpisodeTable, finished
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards import resolve_reward
from crystal_gym.rewards.perov5_water_splitting import MARGINS, CriteriaReward

# Rewards whose targets are searched for; each has a shaped variant with the suffix "-shaped".
TASKS = ("perov5-water-splitting", "perov5-photocorrosion-shield")


class Oracle:
    """Evaluates crystals and counts them; a crystal that was evaluated before costs nothing.

    Args:
        is_target: Whether each crystal is a target, bool (C,).
        scores: Shaped score of each crystal, float64 (C,), 1 for the targets.
        budget: Number of distinct crystals that may be evaluated, at least 1.
        labels: Labels of each crystal, float64 (C, K) (default: none).

    Attributes:
        budget: Number of distinct crystals that may be evaluated.
        evaluated: Whether each crystal has been evaluated, bool (C,).
        found_at: Number of evaluations at which each target was found, in ascending order.

    Raises:
        CrystalGymError: If the budget is not an integer from 1 to the number of crystals, or if no
            crystal is a target.
    """

    def __init__(
        self,
        is_target: np.ndarray,
        scores: np.ndarray,
        budget: int,
        labels: np.ndarray | None = None,
    ) -> None:
        check_budget(budget, len(scores))
        if not is_target.any():
            raise CrystalGymError("Expected at least one target crystal, got none. Use other data.")
        self.budget = budget
        self.evaluated = np.zeros(len(scores), bool)
        self.found_at: list[int] = []
        self._is_target, self._scores = is_target, scores
        self._labels = np.zeros((len(scores), 0)) if labels is None else labels
        self._order: list[int] = []

    @property
    def n_evaluations(self) -> int:
        """Number of distinct crystals evaluated so far."""
        return len(self._order)

    @property
    def remaining(self) -> int:
        """Number of crystals that may still be evaluated."""
        return self.budget - self.n_evaluations

    @property
    def finished(self) -> bool:
        """Whether all targets are found or the budget is spent."""
        return len(self.found_at) == self._is_target.sum() or self.remaining == 0

    @property
    def order(self) -> np.ndarray:
        """Rows of the evaluated crystals in the order of their evaluation, int64 (k,)."""
        return np.array(self._order, np.int64)

    def evaluate(self, crystals: np.ndarray) -> np.ndarray:
        """Return the shaped scores of crystals, and count those that are evaluated first.

        Args:
            crystals: Rows of the collection, (k,), evaluated one after another.

        Returns:
            Scores, float64 (k,): 1 for a target, less for all others.

        Raises:
            CrystalGymError: If the crystals exceed the budget, in which case none is evaluated, or
                are not rows of the collection.
        """
        crystals = np.asarray(crystals, np.int64)
        if ((crystals < 0) | (crystals >= len(self._scores))).any():
            raise CrystalGymError(
                f"Expected rows from 0 to {len(self._scores) - 1}, got "
                f"{crystals.min()} to {crystals.max()}. Propose crystals of the search space."
            )
        new = [c for c in dict.fromkeys(crystals.tolist()) if not self.evaluated[c]]
        if len(new) > self.remaining:
            raise CrystalGymError(
                f"Expected at most {self.remaining} new crystals within the budget of "
                f"{self.budget} evaluations, got {len(new)}. Propose fewer."
            )
        for crystal in new:
            self._order.append(crystal)
            self.evaluated[crystal] = True
            if self._is_target[crystal]:
                self.found_at.append(len(self._order))
        return self._scores[crystals]

    def labels(self, crystals: np.ndarray) -> np.ndarray:
        """Return the labels of crystals that were evaluated before, float64 (k, K).

        Args:
            crystals: Rows of the collection, (k,).

        Raises:
            CrystalGymError: If a crystal has not been evaluated.
        """
        unknown = ~self.evaluated[crystals]
        if unknown.any():
            raise CrystalGymError(
                f"Expected evaluated crystals, got {unknown.sum()} whose labels are not revealed. "
                "Evaluate them first."
            )
        return self._labels[crystals]


@dataclass(frozen=True)
class DiscoveryTask:
    """The targets of a reward among the crystals of a table.

    Attributes:
        name: Name of the reward, one of ``TASKS``.
        is_target: Whether each crystal is a target, bool (C,).
        scores: Shaped score of each crystal with the default margins, float64 (C,).
        criteria: The criteria that targets meet.
        labels: The labels of the criteria, float64 (C, K).
        labels_sha256: Fingerprint of the labels.
    """

    name: str
    is_target: np.ndarray
    scores: np.ndarray
    criteria: Criteria
    labels: np.ndarray
    labels_sha256: str | None

    @classmethod
    def of(cls, table: EpisodeTable, name: str) -> "DiscoveryTask":
        """Return a task on the crystals of a table.

        Raises:
            UnknownNameError: If there is no such task.
            CrystalGymError: If the collection lacks the labels.
        """
        if name not in TASKS:
            raise UnknownNameError("discovery task", name, TASKS)
        rows = np.arange(len(table.collection))
        state = finished(table, rows, table.true_elements)
        values = []
        criteria = Criteria()
        for reward_name in (name, shaped_reward(name)):
            reward = cast(CriteriaReward, resolve_reward(reward_name))
            criteria = Criteria(reward.labels, reward.alternatives, reward.margins or MARGINS)
            reward.prepare(table)
            values.append(reward.on_finish(table, state)[0])
        collection = table.collection
        labels = np.column_stack([collection.labels[label] for label in criteria.labels])
        fingerprint = collection.labels_fingerprint(criteria.labels)
        return cls(name, values[0] == 1, values[1], criteria, labels, fingerprint)

    def oracle(self, budget: int | None = None) -> Oracle:
        """Return an oracle without evaluations; the default budget allows all crystals."""
        budget = len(self.scores) if budget is None else budget
        return Oracle(self.is_target, self.scores, budget, self.labels)

    def search(self, space: SearchSpace, seed: int, budget: int | None = None) -> "Search":
        """Return a search without evaluations.

        Args:
            space: The search space.
            seed: Seed of the random numbers.
            budget: Number of distinct crystals that may be evaluated, ``None`` for all.
        """
        rng = np.random.default_rng(seed)
        return Search(space, self.oracle(budget), rng, self.criteria, self.name)


def shaped_reward(task: str) -> str:
    """Return the name of the shaped reward of a task."""
    return f"{task}-shaped"


def check_budget(budget: object, n_crystals: int) -> None:
    """Verify that a budget is an integer from 1 to the number of crystals.

    Raises:
        CrystalGymError: If it is not.
    """
    if type(budget) is not int or not 1 <= budget <= n_crystals:
        raise CrystalGymError(
            f"Expected a budget from 1 to {n_crystals:,} evaluations, got {budget!r}. "
            "Choose another budget."
        )


def random_expectation(n_crystals: int, n_targets: int, n_found: int) -> float:
    """Return the expected number of random evaluations without replacement that find k targets.

    The position of the k-th of T targets in a random order of N crystals has the expectation
    k (N + 1) / (T + 1).

    Args:
        n_crystals: N.
        n_targets: T.
        n_found: k, from 1 to T.
    """
    return n_found * (n_crystals + 1) / (n_targets + 1)


@dataclass(frozen=True)
class Search:
    """What a method receives: the search space, the oracle and random numbers.

    Attributes:
        space: The search space.
        oracle: The oracle.
        rng: Source of random numbers.
        criteria: The criteria of the task.
        task: Name of the task.
        counts: Numbers that a method reports about itself, such as episodes that are not crystals
            of the grid, by name.
    """

    space: SearchSpace
    oracle: Oracle
    rng: np.random.Generator
    criteria: Criteria
    task: str
    counts: dict[str, int] = field(default_factory=dict)

    def candidates(self) -> np.ndarray:
        """Return the rows of crystals that are allowed and have not been evaluated, (k,)."""
        return np.flatnonzero(self.space.allowed & ~self.oracle.evaluated)

    def draw(self, count: int) -> np.ndarray:
        """Draw distinct candidates at random, at most ``count`` and what the budget allows."""
        candidates = self.candidates()
        count = min(count, len(candidates), self.oracle.remaining)
        return self.rng.choice(candidates, count, replace=False)
