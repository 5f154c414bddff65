"""Diversity filter: a reward that lowers another one for crystals that were found often."""

from typing import Any

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards.reward import Reward
from crystal_gym.rewards.validation import require_finite
from crystal_gym.rewards.visit_counts import VisitCounts, known_crystals


class DiversityFilter(Reward):
    """A reward whose value at the end is limited to a floor for crystals that were found often.

    For the first ``limit`` crystals of a composition, the value is that of the reward; for all
    later ones, it is the smaller one of this value and the floor. Thus the filter never increases
    a reward, and crystals whose reward is below the floor are not affected. Rewards of single steps
    are not changed.

    The diversity filter of REINVENT (Blaschke et al., 2020) limits the molecules of each scaffold
    in the same way; its scores are from 0 to 1 and its floor is 0. The value depends on earlier
    episodes: see ``memories`` for the episodes that count.

    Components: those of the reward; ``unfiltered``, its value at the end; and ``count``, the number
    of the crystal among those of its composition.

    Args:
        reward: The reward.
        limit: Number of crystals of each composition whose reward is not changed, at least 1.
        floor: Highest value of the reward at the end of all others, in the unit of the reward.
        by: What is counted, ``composition`` or ``filling``, see ``VisitCounts``.
        known: A split of the collection whose compositions have reached the limit from the start,
            such as ``train`` (default: none).

    Raises:
        CrystalGymError: If the limit is not an integer of at least 1, the floor is not a finite
            number, or the reward has a component with one of these names.
        UnknownNameError: If ``by`` is another value.
    """

    def __init__(
        self,
        reward: Reward,
        limit: int = 10,
        floor: float = 0.0,
        by: str = "composition",
        known: str | None = None,
    ) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 1:
            raise CrystalGymError(
                f"Expected limit of a diversity filter to be an integer of at least 1, got "
                f"{limit!r}."
            )
        added = ("unfiltered", "count")
        taken = [name for name in added if name in reward.components]
        if taken:
            raise CrystalGymError(
                f"Expected a reward without the component {taken[0]!r}, which a diversity filter "
                "adds. To filter the parts of a sum, filter each of them, or filter the sum."
            )
        self.reward = reward
        self.limit = int(limit)
        self.floor = require_finite(floor, "floor of a diversity filter")
        self.counts = VisitCounts(by)
        self.known = known
        self.components = (*reward.components, *added)
        self.labels = reward.labels
        own = f"diversity filter: at most {limit} crystals of each {by} above {floor:g}"
        self.definition = "; ".join(filter(None, (reward.definition, own)))

    def prepare(self, table: EpisodeTable) -> None:
        """Prepare the reward and start with the known crystals.

        Args:
            table: The crystals.

        Raises:
            UnknownNameError: If there is no split ``known``.
            CrystalGymError: If the reward is not defined for these crystals.
        """
        self.reward.prepare(table)
        self.labels = self.reward.labels
        self.counts.start(known_crystals(table, self.known), self.limit)

    def on_fill(self, table: EpisodeTable, state: EpisodeState, element: Any) -> Any:
        """Return the reward for a step, which is not filtered; see ``Reward.on_fill``."""
        return self.reward.on_fill(table, state, element)

    def on_finish(
        self, table: EpisodeTable, state: EpisodeState
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Count the crystals and filter their rewards.

        Args:
            table: The crystals.
            state: A batch of k finished episodes.

        Returns:
            The rewards, float64 (k,), and the components.
        """
        values, components = self.reward.on_finish(table, state)
        count = self.counts.add(table, state)
        filtered = np.where(count <= self.limit, values, np.minimum(values, self.floor))
        return filtered, {
            **components,
            "unfiltered": np.asarray(values, np.float64),
            "count": count.astype(np.float64),
        }

    def memories(self) -> dict[str, VisitCounts]:
        """Return the counts, and the memories of the reward."""
        return {"diversity-filter": self.counts, **self.reward.memories()}

    def without_memory(self) -> Reward:
        """Return the reward without the filter."""
        return self.reward.without_memory()
