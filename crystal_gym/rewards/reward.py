"""The interface of rewards."""

from typing import Any

import numpy as np

from crystal_gym.episode import EpisodeTable


class Reward:
    """Reward for filling sites and finishing crystals.

    ``on_fill`` and ``on_finish`` return zero by default. To define a reward, override one or both
    and pass an instance to the environment as ``reward``. The same object serves the
    single and the vector environment.

    Attributes:
        labels: Names of the collection's labels on which the reward depends.
        definition: The details that the name of the reward leaves open, in one line, such as the
            validity rule and the version of SMACT; ``None`` if there are none. Tables and dataset
            cards print it.
    """

    labels: tuple[str, ...] = ()
    definition: str | None = None

    def prepare(self, table: EpisodeTable) -> None:
        """Prepare for the crystals of an environment, which calls this once when it is made.

        Override it to reject unsuitable crystals early. The other methods must also work without
        this call.

        Args:
            table: The crystals.

        Raises:
            CrystalGymError: If the reward is not defined for these crystals.
        """

    def on_fill(self, table: EpisodeTable, crystal: Any, site: Any, element: Any) -> Any:
        """Return the reward for assigning an element to a site, elementwise.

        Args:
            table: The crystals, their true elements and the vocabulary.
            crystal: Rows of the table, an int or (B,).
            site: The filled sites, an int or (B,).
            element: Codes (1 to V) of the assigned elements, an int or (B,).

        Returns:
            A float for all, or float64 (B,). The vector environment also passes crystals that were
            already full and ignores their values.
        """
        return np.zeros(np.shape(crystal))

    def on_finish(
        self, table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the reward at the end of episodes, in addition to ``on_fill`` for the last site.

        Args:
            table: The crystals, their true elements and the vocabulary.
            crystal: Rows of the table, (k,).
            elements: Codes of the elements on all sites, int32 (k, N), padded with -1;
                ``table.vocabulary.decode`` converts them to atomic numbers.

        Returns:
            The rewards, (k,), and components by name, each (k,), which are added to ``info``.
        """
        return np.zeros(len(crystal)), {}
