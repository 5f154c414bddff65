"""Rewards by name, one file per reward."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards.function import FunctionReward
from crystal_gym.rewards.match import MatchReward, fraction_matched
from crystal_gym.rewards.reward import Reward
from crystal_gym.rewards.validity import ValidityReward

if TYPE_CHECKING:
    from pymatgen.core import Structure

__all__ = [
    "REWARDS",
    "FunctionReward",
    "MatchReward",
    "Reward",
    "ValidityReward",
    "finish",
    "fraction_matched",
    "resolve_reward",
]

REWARDS: dict[str, Callable[[], Reward]] = {"match": MatchReward, "validity": ValidityReward}


def resolve_reward(reward: "str | Reward | Callable[[Structure], float]") -> Reward:
    """A reward given by its name, as an object, or as a function of the finished structure.

    Raises:
        UnknownNameError: no such name.
        CrystalGymError: none of the three.
    """
    if isinstance(reward, Reward):
        return reward
    if isinstance(reward, str):
        if reward not in REWARDS:
            raise UnknownNameError("reward", reward, REWARDS)
        return REWARDS[reward]()
    if not callable(reward) or isinstance(reward, type):
        raise CrystalGymError(
            f"A reward is a name, a Reward object or a function of a Structure, not {reward!r}. "
            f"Names: {', '.join(sorted(REWARDS))}."
        )
    return FunctionReward(reward)


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
