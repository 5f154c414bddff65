"""Reward for crystals that were finished rarely."""

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.rewards.reward import Reward
from crystal_gym.rewards.visit_counts import VisitCounts, known_crystals


class NoveltyReward(Reward):
    r"""Count-based bonus :math:`1/\sqrt{n}` for the n-th crystal of a composition, at the end.

    The bonus is that of Bellemare et al. (2016), with the count of the finished crystal in place of
    the pseudo-count of a state. It is meant as a part of a weighted sum. It depends on earlier
    episodes: see ``memories`` for the episodes that count.

    Component: ``count``, n.

    Args:
        by: What is counted, ``composition`` or ``filling``, see ``VisitCounts``.
        known: A split of the collection whose crystals count once from the start, such as ``train``
            (default: none).

    Raises:
        UnknownNameError: If ``by`` is another value.
    """

    components = ("count",)

    def __init__(self, by: str = "composition", known: str | None = None) -> None:
        self.counts = VisitCounts(by)
        self.known = known
        self.definition = f"novelty: 1/sqrt(n) for the n-th crystal of each {by}"

    def prepare(self, table: EpisodeTable) -> None:
        """Start with the known crystals.

        Args:
            table: The crystals.

        Raises:
            UnknownNameError: If there is no split ``known``.
        """
        self.counts.start(known_crystals(table, self.known))

    def on_finish(
        self, table: EpisodeTable, state: EpisodeState
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Count the crystals and compute the bonuses.

        Args:
            table: The crystals.
            state: A batch of k finished episodes.

        Returns:
            The rewards, float64 (k,), and the component ``count``.
        """
        count = self.counts.add(table, state).astype(np.float64)
        return 1 / np.sqrt(count), {"count": count}

    def memories(self) -> dict[str, VisitCounts]:
        """Return the counts."""
        return {"novelty": self.counts}

    def without_memory(self) -> Reward:
        """Return a reward of zero."""
        return Reward()
