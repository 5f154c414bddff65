"""A reward that counts the calculations that an experiment would have required."""

from typing import Any

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.rewards import Reward, VisitCounts
from crystal_gym.rewards.label_lookup import LabelReward, label_table


class CountedReward(Reward):
    """A reward with the number of its *oracle calls*, the distinct crystals that it evaluated.

    A reward that looks up DFT labels requires one calculation for each distinct labeled crystal,
    whatever the skeleton. Other rewards require one for each distinct filling of each skeleton.

    Args:
        reward: The reward.
    """

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self.components = reward.components
        self.labels = reward.labels
        self.definition = reward.definition
        self._seen: set[int | tuple[int, ...]] = set()

    @property
    def oracle_calls(self) -> int:
        """Number of oracle calls so far."""
        return len(self._seen)

    def prepare(self, table: EpisodeTable) -> None:
        """Prepare the reward."""
        self.reward.prepare(table)

    def on_fill(self, table: EpisodeTable, state: EpisodeState, element: Any) -> Any:
        """Return the reward for assigning an element."""
        return self.reward.on_fill(table, state, element)

    def on_finish(
        self, table: EpisodeTable, state: EpisodeState
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the reward at the end of episodes, and count their crystals."""
        self.count(table, state.crystal, state.elements)
        return self.reward.on_finish(table, state)

    def memories(self) -> dict[str, VisitCounts]:
        """Return the memories of the reward."""
        return self.reward.memories()

    def without_memory(self) -> Reward:
        """Return the reward without memory; it is not counted."""
        return self.reward.without_memory()

    def count(self, table: EpisodeTable, crystals: np.ndarray, elements: np.ndarray) -> None:
        """Count finished crystals as evaluated.

        Args:
            table: The crystals.
            crystals: Rows of the skeletons, (k,).
            elements: Codes of the elements, int (k, N), padded with -1.
        """
        if isinstance(self.reward, LabelReward):
            labels = label_table(table, *self.labels)
            found = labels.find(elements)
            self._seen.update(found[(found >= 0) & labels.labeled[found]].tolist())
        else:
            self._seen.update(map(tuple, np.column_stack([crystals, elements]).tolist()))
