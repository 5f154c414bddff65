"""What a reward is."""

from typing import Any

import numpy as np

from crystal_gym.episode import EpisodeTable


class Reward:
    """What filling a site and finishing a crystal is worth; both default to nothing.

    One object serves the single and the vector environment. Write your own by overriding one method
    or both, and pass an instance as ``reward`` to the environment.

    Attributes:
        labels: names of the collection's labels that decide what is paid.
    """

    labels: tuple[str, ...] = ()

    def prepare(self, table: EpisodeTable) -> None:
        """What can be done before the first episode; an environment calls it with its crystals.

        The place to refuse crystals that cannot be judged. The other methods must not count on it.
        """

    def on_fill(self, table: EpisodeTable, crystal: Any, site: Any, element: Any) -> Any:
        """Reward for putting an element on a site, elementwise.

        Args:
            table: the crystals, their true elements and the vocabulary.
            crystal: rows of the table, an int or (B,).
            site: the sites that were filled, an int or (B,).
            element: codes (1 to V) of the elements put there, an int or (B,).

        Returns:
            A float, which holds for all, or float64 (B,). In a vector environment, rows of crystals
            that were already full are asked for too, and their answers dropped.
        """
        return np.zeros(np.shape(crystal))

    def on_finish(
        self, table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Reward at the end of episodes, on top of ``on_fill`` for the last site.

        Args:
            table: the crystals, their true elements and the vocabulary.
            crystal: rows of the table, (k,).
            elements: codes of the elements on all sites, int32 (k, N), padded with -1;
                ``table.vocabulary.decode`` makes atomic numbers of them.

        Returns:
            The reward, (k,), and components by name, each (k,), that will stand in ``info``.
        """
        return np.zeros(len(crystal)), {}
