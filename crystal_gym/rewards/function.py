"""Reward from a function of the finished crystal."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards.reward import Reward

if TYPE_CHECKING:
    from pymatgen.core import Structure


class FunctionReward(Reward):
    """What a function says of the finished crystal, at the end of the episode.

    Args:
        function: from a pymatgen ``Structure`` to a number.
    """

    def __init__(self, function: "Callable[[Structure], float]") -> None:
        self.function = function

    def on_finish(
        self, table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The function's value, and the same as component ``score``.

        Raises:
            CrystalGymError: the value is not a number.
        """
        numbers = table.vocabulary.decode(elements)
        values = [
            self._value(table.collection.skeleton(int(row)).fill(sites[: table.n_sites[row]]))
            for row, sites in zip(crystal, numbers, strict=True)
        ]
        score = np.array(values, np.float64)
        return score, {"score": score}

    def _value(self, structure: "Structure") -> float:
        value = self.function(structure)
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise CrystalGymError(
                f"The reward function must return a number; for {structure.formula} it returned "
                f"{value!r}."
            ) from error
