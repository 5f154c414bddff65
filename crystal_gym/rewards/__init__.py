"""Rewards for filling crystal skeletons: one module per reward, and a registry of their names."""

from crystal_gym.errors import RewardError
from crystal_gym.rewards.diversity_filter import DiversityFilter
from crystal_gym.rewards.energy.formation_energy import FormationEnergyReward
from crystal_gym.rewards.episode_end import component_names, finish
from crystal_gym.rewards.failure_handling import FailureHandler
from crystal_gym.rewards.function import FunctionReward
from crystal_gym.rewards.match import MatchReward, fraction_matched
from crystal_gym.rewards.novelty import NoveltyReward
from crystal_gym.rewards.perov5_dft import Perov5DftReward
from crystal_gym.rewards.perov5_gap import Perov5GapReward
from crystal_gym.rewards.perov5_water_splitting import (
    Perov5PhotocorrosionShieldReward,
    Perov5WaterSplittingReward,
)
from crystal_gym.rewards.registry import REWARDS, resolve_reward
from crystal_gym.rewards.reward import Reward
from crystal_gym.rewards.target import TargetReward
from crystal_gym.rewards.validity import ValidityReward
from crystal_gym.rewards.visit_counts import VisitCounts
from crystal_gym.rewards.weighted_sum import WeightedSum

__all__ = [
    "REWARDS",
    "DiversityFilter",
    "FailureHandler",
    "FormationEnergyReward",
    "FunctionReward",
    "MatchReward",
    "NoveltyReward",
    "Perov5DftReward",
    "Perov5GapReward",
    "Perov5PhotocorrosionShieldReward",
    "Perov5WaterSplittingReward",
    "Reward",
    "RewardError",
    "TargetReward",
    "ValidityReward",
    "VisitCounts",
    "WeightedSum",
    "component_names",
    "finish",
    "fraction_matched",
    "resolve_reward",
]
