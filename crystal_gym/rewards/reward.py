"""The interface of rewards."""

from typing import TYPE_CHECKING, Any

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable

if TYPE_CHECKING:
    from crystal_gym.rewards.visit_counts import VisitCounts


class Reward:
    """Reward for filling sites and finishing crystals.

    ``on_fill`` and ``on_finish`` return zero by default. To define a reward, override one or both
    and pass an instance to the environment as ``reward``. The same object serves the
    single and the vector environment.

    Attributes:
        components: Names of the components that ``on_finish`` returns. They are entries of ``info``
            at every step, -1 before the end.
        labels: Names of the collection's labels on which the reward depends.
        definition: The details that the name of the reward leaves open, in one line, such as the
            validity rule and the version of SMACT; ``None`` if there are none. Tables and dataset
            cards print it.
    """

    components: tuple[str, ...] = ()
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

    def on_fill(self, table: EpisodeTable, state: EpisodeState, element: Any) -> Any:
        """Return the reward for assigning an element to the site in focus.

        Args:
            table: The crystals, their true elements and the vocabulary.
            state: One episode or a batch of B, before the site ``state.focus`` is filled.
            element: Codes (1 to V) of the assigned elements, an int or (B,).

        Returns:
            A float for all, or float64 (B,). The vector environment also passes crystals that were
            already full and ignores their values.
        """
        return np.zeros(np.shape(state.crystal))

    def on_finish(
        self, table: EpisodeTable, state: EpisodeState
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the reward at the end of episodes, in addition to ``on_fill`` for the last site.

        Args:
            table: The crystals, their true elements and the vocabulary.
            state: A batch of k finished episodes. ``state.elements`` are the codes of the elements
                on all sites, int32 (k, N), padded with -1; ``table.vocabulary.decode`` converts
                them to atomic numbers.

        Returns:
            The rewards, (k,), and the ``components`` by name, each (k,).
        """
        return np.zeros(len(state.crystal)), {}

    def memories(self) -> "dict[str, VisitCounts]":
        """Return the counts of earlier episodes on which the reward depends, by an arbitrary name.

        Most rewards have none. The counts include the episodes of all environments that have this
        object as their reward. They are reset when an environment is made and when it is reset
        with a seed; a reset without a seed preserves them.
        """
        return {}

    def without_memory(self) -> "Reward":
        """Return the reward without the terms that depend on earlier episodes.

        The evaluators of ``crystal_agents`` use it, so that the order of the crystals has no effect
        and an evaluation does not change the memories of the training.
        """
        return self
