"""The reward and the info at the end of episodes, for every reward."""

import numpy as np

from crystal_gym.episode import EpisodeTable
from crystal_gym.rewards.match import fraction_matched
from crystal_gym.rewards.reward import Reward


def finish(
    reward: Reward, table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Compute the reward at the end of episodes, and add the component ``match``.

    Args:
        reward: The reward.
        table: The crystals.
        crystal: Rows of the table, (k,).
        elements: Codes of the elements, int32 (k, N), padded with -1.

    Returns:
        The rewards, (k,), and the components by name, each (k,): those of the reward, and
        ``match``, the fraction of sites with their true element.
    """
    last, components = reward.on_finish(table, crystal, elements)
    return last, {**components, "match": fraction_matched(table, crystal, elements)}
