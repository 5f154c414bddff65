"""A weighted sum of rewards."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards.failure_handling import finite
from crystal_gym.rewards.reward import Reward


class WeightedSum(Reward):
    """The sum of rewards, each times its weight, at every step and at the end.

    The components of a part stand in info as ``part/component``, so that they never collide. A part
    of weight 0 pays nothing, not even NaN, but tells its components.

    Args:
        parts: weight and reward of each part, by names of your choice.

    Raises:
        CrystalGymError: no parts, or a weight that is not a finite number.
    """

    def __init__(self, parts: Mapping[str, tuple[float, Reward]]) -> None:
        if not parts:
            raise CrystalGymError("A weighted sum needs at least one reward.")
        self.parts: dict[str, tuple[float, Reward]] = {}
        for name, (weight, reward) in parts.items():
            if not isinstance(reward, Reward):
                raise CrystalGymError(
                    f"Part {name!r} of a weighted sum is a Reward, not {reward!r}; "
                    "`resolve_reward` makes one of a name or a function."
                )
            self.parts[name] = finite(weight, f"The weight of reward {name!r}"), reward
        found = {label for _, reward in self.parts.values() for label in reward.labels}
        self.labels = tuple(sorted(found))

    def prepare(self, table: EpisodeTable) -> None:
        """Prepare every part."""
        for _, reward in self.parts.values():
            reward.prepare(table)

    def on_fill(self, table: EpisodeTable, crystal: Any, site: Any, element: Any) -> Any:
        """The parts' rewards for the step, weighted and summed."""
        total = np.zeros(np.shape(crystal))
        for weight, reward in self.parts.values():
            if weight:
                total = total + weight * reward.on_fill(table, crystal, site, element)
        return total

    def on_finish(
        self, table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The parts' rewards for the end, weighted and summed, and all their components."""
        total, components = np.zeros(len(crystal)), {}
        for name, (weight, reward) in self.parts.items():
            last, told = reward.on_finish(table, crystal, elements)
            if weight:
                total = total + weight * last
            components |= {f"{name}/{component}": value for component, value in told.items()}
        return total, components
