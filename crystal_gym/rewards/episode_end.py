"""The reward and the info at the end of episodes, for every reward."""

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards.match import fraction_matched
from crystal_gym.rewards.reward import Reward


def finish(
    reward: Reward, table: EpisodeTable, state: EpisodeState
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Compute the reward at the end of episodes, and add the component ``match``.

    Args:
        reward: The reward.
        table: The crystals.
        state: A batch of k finished episodes.

    Returns:
        The rewards, (k,), and the components by name, each (k,): those of the reward, and
        ``match``, the fraction of the sites that the agent filled with their true element.

    Raises:
        CrystalGymError: If the components are not those that the reward declares.
    """
    last, components = reward.on_finish(table, state)
    if tuple(components) != reward.components and set(components) != set(reward.components):
        raise CrystalGymError(
            f"Expected {type(reward).__name__}.on_finish to return the components "
            f"{list(reward.components)}, got {list(components)}. Set the attribute `components` of "
            "the reward to the names that it returns."
        )
    return last, {**components, "match": fraction_matched(table, state)}


def component_names(reward: Reward) -> tuple[str, ...]:
    """Return the names of the components that ``finish`` returns."""
    return (*reward.components, "match")
