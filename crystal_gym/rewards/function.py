"""Reward computed by a function of the finished structure."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import RewardError
from crystal_gym.rewards.failure_handling import (
    FailureHandler,
    describe_crystal,
    name_failed_crystal,
)
from crystal_gym.rewards.reward import Reward

if TYPE_CHECKING:
    from pymatgen.core import Structure


class FunctionReward(Reward):
    """Value of a function of the finished structure, at the end of the episode.

    Components: ``score``, the value of the function, and those of ``FailureHandler``.

    Args:
        function: Maps a pymatgen ``Structure`` to a number.
        fallback: The reward where the function returns NaN or an infinity. Choose it below all
            regular values.

    Raises:
        CrystalGymError: If the fallback is not a finite number.
    """

    components = ("score", *FailureHandler.components)

    def __init__(self, function: "Callable[[Structure], float]", fallback: float = 0.0) -> None:
        self.function = function
        self.failures = FailureHandler(fallback)

    def on_finish(
        self, table: EpisodeTable, state: EpisodeState
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Evaluate the function on each crystal.

        Args:
            table: The crystals.
            state: A batch of k finished episodes.

        Returns:
            The rewards, float64 (k,), and the components.

        Raises:
            RewardError: If the function raises or does not return a number.
        """
        pairs = zip(state.crystal.tolist(), state.elements, strict=True)
        values = np.array([self._evaluate(table, row, codes) for row, codes in pairs], np.float64)
        rewards, components = self.failures.replace_failures(table, state, values)
        return rewards, {"score": values, **components}

    def _evaluate(self, table: EpisodeTable, row: int, elements: np.ndarray) -> float:
        numbers = table.vocabulary.decode(elements[: table.n_sites[row]])
        structure = table.collection.skeleton(row).fill(numbers)
        with name_failed_crystal(table, row, elements):
            value = self.function(structure)
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise RewardError(
                "Expected the reward function to return a number for "
                f"{describe_crystal(table, row, elements)}, got {value!r}."
            ) from error
