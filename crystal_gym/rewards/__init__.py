"""What filling a crystal is worth: one file per reward, and a registry of their names."""

import numpy as np

from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import RewardError
from crystal_gym.rewards.energy.formation_energy import FormationEnergyReward
from crystal_gym.rewards.failure_handling import FailureHandler
from crystal_gym.rewards.function import FunctionReward
from crystal_gym.rewards.match import MatchReward, fraction_matched
from crystal_gym.rewards.perov5_dft import Perov5DftReward
from crystal_gym.rewards.perov5_gap import Perov5GapReward
from crystal_gym.rewards.registry import REWARDS, resolve_reward
from crystal_gym.rewards.reward import Reward
from crystal_gym.rewards.validity import ValidityReward
from crystal_gym.rewards.weighted_sum import WeightedSum

__all__ = [
    "REWARDS",
    "FailureHandler",
    "FormationEnergyReward",
    "FunctionReward",
    "MatchReward",
    "Perov5DftReward",
    "Perov5GapReward",
    "Reward",
    "RewardError",
    "ValidityReward",
    "WeightedSum",
    "finish",
    "fraction_matched",
    "resolve_reward",
]


def finish(
    reward: Reward, table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The reward's ``on_finish``, its components joined by ``match``, the fraction right.

    Args:
        reward: whose verdict is asked.
        table: the crystals.
        crystal: rows of the table, (k,).
        elements: codes, int32 (k, N), padded with -1.

    Returns:
        The reward, (k,), and components by name, each (k,).
    """
    last, components = reward.on_finish(table, crystal, elements)
    return last, {**components, "match": fraction_matched(table, crystal, elements)}
