"""Reward from a function of the finished crystal."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from crystal_gym.episode import EpisodeTable
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
    """What a function says of the finished crystal, at the end of the episode.

    Args:
        function: from a pymatgen ``Structure`` to a number.
        fallback: the reward where the function returns NaN or an infinity; give one below all
            values that are meant to be earned.
    """

    def __init__(self, function: "Callable[[Structure], float]", fallback: float = 0.0) -> None:
        self.function = function
        self.failures = FailureHandler(fallback)

    def on_finish(
        self, table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The function's value; it as it came out as component ``score``; those of ``FailureHandler``.

        Raises:
            RewardError: the function raises, or its value is not a number.
        """
        pairs = zip(crystal.tolist(), elements, strict=True)
        values = np.array([self._value(table, row, sites) for row, sites in pairs], np.float64)
        paid, told = self.failures.replace_failures(table, crystal, elements, values)
        return paid, {"score": values, **told}

    def _value(self, table: EpisodeTable, row: int, sites: np.ndarray) -> float:
        numbers = table.vocabulary.decode(sites[: table.n_sites[row]])
        structure = table.collection.skeleton(row).fill(numbers)
        with name_failed_crystal(table, row, sites):
            value = self.function(structure)
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise RewardError(
                "The reward function must return a number; for "
                f"{describe_crystal(table, row, sites)} it returned {value!r}."
            ) from error
