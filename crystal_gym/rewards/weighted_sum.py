"""A weighted sum of rewards."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards.reward import Reward
from crystal_gym.rewards.validation import require_finite
from crystal_gym.rewards.visit_counts import VisitCounts


class WeightedSum(Reward):
    """Weighted sum of rewards, at every step and at the end.

    The components of each part are named ``part/component`` in ``info``. A part with weight 0 adds
    its components to ``info`` but nothing to the reward, even where its value is NaN.

    Args:
        parts: Weight and reward of each part, by an arbitrary name.

    Raises:
        CrystalGymError: If there are no parts, a weight is not a finite number, or a part is not a
            ``Reward``.
    """

    def __init__(self, parts: Mapping[str, tuple[float, Reward]]) -> None:
        if not parts:
            raise CrystalGymError("Expected at least one reward in a weighted sum, got none.")
        self.parts: dict[str, tuple[float, Reward]] = {}
        for name, (weight, reward) in parts.items():
            if not isinstance(reward, Reward):
                raise CrystalGymError(
                    f"Expected part {name!r} of a weighted sum to be a Reward, got {reward!r}. "
                    "Convert names and functions with resolve_reward."
                )
            self.parts[name] = require_finite(weight, f"the weight of reward {name!r}"), reward
        labels = {label for _, reward in self.parts.values() for label in reward.labels}
        self.labels = tuple(sorted(labels))
        self.components = tuple(
            f"{name}/{component}"
            for name, (_, reward) in self.parts.items()
            for component in reward.components
        )
        definitions = {reward.definition: None for _, reward in self.parts.values()}
        self.definition = "; ".join(filter(None, definitions)) or None

    def prepare(self, table: EpisodeTable) -> None:
        """Prepare every part.

        Args:
            table: The crystals.

        Raises:
            CrystalGymError: If a part is not defined for these crystals.
        """
        for _, reward in self.parts.values():
            reward.prepare(table)

    def on_fill(self, table: EpisodeTable, state: EpisodeState, element: Any) -> Any:
        """Return the weighted sum of the parts' rewards for a step; see ``Reward.on_fill``."""
        total = np.zeros(np.shape(state.crystal))
        for weight, reward in self.parts.values():
            if weight:
                total = total + weight * reward.on_fill(table, state, element)
        return total

    def on_finish(
        self, table: EpisodeTable, state: EpisodeState
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the weighted sum of the parts' rewards at the end; see ``Reward.on_finish``."""
        total, components = np.zeros(len(state.crystal)), {}
        for name, (weight, reward) in self.parts.items():
            last, own = reward.on_finish(table, state)
            if weight:
                total = total + weight * last
            components |= {f"{name}/{component}": value for component, value in own.items()}
        return total, components

    def memories(self) -> dict[str, VisitCounts]:
        """Return the memories of all parts; their names begin with that of the part."""
        return {
            f"{name}/{memory}": counts
            for name, (_, reward) in self.parts.items()
            for memory, counts in reward.memories().items()
        }

    def without_memory(self) -> Reward:
        """Return the sum of the parts without memory."""
        return WeightedSum(
            {name: (weight, part.without_memory()) for name, (weight, part) in self.parts.items()}
        )
