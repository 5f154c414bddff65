"""Rewards by name, with weights and parameters."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards.diversity_filter import DiversityFilter
from crystal_gym.rewards.energy.formation_energy import FormationEnergyReward
from crystal_gym.rewards.function import FunctionReward
from crystal_gym.rewards.match import MatchReward
from crystal_gym.rewards.novelty import NoveltyReward
from crystal_gym.rewards.perov5_dft import Perov5DftReward
from crystal_gym.rewards.perov5_gap import Perov5GapReward
from crystal_gym.rewards.perov5_water_splitting import (
    MARGINS,
    Perov5PhotocorrosionShieldReward,
    Perov5WaterSplittingReward,
)
from crystal_gym.rewards.reward import Reward
from crystal_gym.rewards.target import TargetReward
from crystal_gym.rewards.validity import ValidityReward
from crystal_gym.rewards.weighted_sum import WeightedSum

if TYPE_CHECKING:
    from pymatgen.core import Structure

    # The argument of `resolve_reward`.
    RewardLike = str | Mapping[str, Any] | Reward | Callable[[Structure], float]


def _filter_diversity(
    reward: "RewardLike" = "validity-strict",
    limit: int = 10,
    floor: float = 0.0,
    by: str = "composition",
    known: str | None = None,
) -> DiversityFilter:
    return DiversityFilter(resolve_reward(reward), limit, floor, by, known)


# Factories of rewards by name. Their keyword arguments are the parameters; all have defaults.
REWARDS: dict[str, Callable[..., Reward]] = {
    "diversity-filter": _filter_diversity,
    "formation-energy": FormationEnergyReward,
    "match": MatchReward,
    "novelty": NoveltyReward,
    "perov5-dft": Perov5DftReward,
    "perov5-gap": Perov5GapReward,
    "perov5-photocorrosion-shield": Perov5PhotocorrosionShieldReward,
    "perov5-photocorrosion-shield-shaped": functools.partial(
        Perov5PhotocorrosionShieldReward, margins=MARGINS
    ),
    "perov5-water-splitting": Perov5WaterSplittingReward,
    "perov5-water-splitting-shaped": functools.partial(Perov5WaterSplittingReward, margins=MARGINS),
    "target": TargetReward,
    "validity": ValidityReward,
    "validity-icsd24": functools.partial(ValidityReward, "icsd24"),
    "validity-strict": functools.partial(ValidityReward, "strict"),
}


def resolve_reward(reward: "RewardLike") -> Reward:
    """Make a reward from a name, a mapping or a function; return a ``Reward`` unchanged.

    Args:
        reward: A name of ``REWARDS``; a mapping of names to weights or to mappings of parameters,
            which may include ``weight`` (default 1); a ``Reward``; or a function from the finished
            structure to a number. ``{"perov5-gap": {"target": 1.5}}`` is a single reward,
            ``{"match": 1, "perov5-gap": {"weight": 0.5, "target": 1.5}}`` is a sum.

    Returns:
        The reward. A mapping gives a ``WeightedSum``, or its only part if that has weight 1.

    Raises:
        UnknownNameError: If the reward or one of its parameters does not exist.
        CrystalGymError: If the argument is of another type, or a weight or parameter is invalid.
    """
    if isinstance(reward, Reward):
        return reward
    if isinstance(reward, str):
        return _make_reward(reward, {})
    if isinstance(reward, Mapping):
        return _make_sum(reward)
    if not callable(reward) or isinstance(reward, type):
        raise CrystalGymError(
            "Expected reward to be a name, a mapping of names to weights or parameters, a Reward "
            f"object or a function of a Structure, got {reward!r}. "
            f"Names: {', '.join(sorted(REWARDS))}."
        )
    return FunctionReward(reward)


def _make_sum(entries: Mapping[str, Any]) -> Reward:
    parts: dict[str, tuple[float, Reward]] = {}
    for name, entry in entries.items():
        parameters = dict(entry) if isinstance(entry, Mapping) else {"weight": entry}
        weight = parameters.pop("weight", 1.0)
        parts[name] = weight, _make_reward(name, parameters)
    total = WeightedSum(parts)
    (weight, first), *others = total.parts.values()
    return first if weight == 1 and not others else total


def _make_reward(name: str, parameters: dict[str, Any]) -> Reward:
    if name not in REWARDS:
        raise UnknownNameError("reward", name, REWARDS)
    known = inspect.signature(REWARDS[name]).parameters
    for parameter in parameters:
        if parameter not in known:
            raise UnknownNameError(f"parameter of reward {name!r}:", parameter, (*known, "weight"))
    return REWARDS[name](**parameters)
