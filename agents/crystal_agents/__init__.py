"""Agents that fill crystal skeletons: networks, behavioral cloning, evaluation.

Names load when they are first used, so that ``import crystal_agents`` needs no PyTorch.
"""

from typing import TYPE_CHECKING

from crystal_gym.lazy import lazy_names

if TYPE_CHECKING:
    from crystal_agents.behavioral_cloning import train
    from crystal_agents.evaluation import evaluate
    from crystal_agents.filling import FilledCrystal
    from crystal_agents.online.vec_env import SkeletonVecEnv
    from crystal_agents.online.warm_start import from_scratch, learned_policy, warm_start
    from crystal_agents.policies import shipped_policies
    from crystal_agents.policy import PolicyConfig, SkeletonPolicy, load_policy
    from crystal_agents.recipes import RECIPES, Recipe

_HOMES = {
    "FilledCrystal": "crystal_agents.filling",
    "PolicyConfig": "crystal_agents.policy",
    "RECIPES": "crystal_agents.recipes",
    "Recipe": "crystal_agents.recipes",
    "SkeletonPolicy": "crystal_agents.policy",
    "SkeletonVecEnv": "crystal_agents.online.vec_env",
    "evaluate": "crystal_agents.evaluation",
    "from_scratch": "crystal_agents.online.warm_start",
    "learned_policy": "crystal_agents.online.warm_start",
    "load_policy": "crystal_agents.policy",
    "shipped_policies": "crystal_agents.policies",
    "train": "crystal_agents.behavioral_cloning",
    "warm_start": "crystal_agents.online.warm_start",
}

__all__ = [
    "RECIPES",
    "FilledCrystal",
    "PolicyConfig",
    "Recipe",
    "SkeletonPolicy",
    "SkeletonVecEnv",
    "evaluate",
    "from_scratch",
    "learned_policy",
    "load_policy",
    "shipped_policies",
    "train",
    "warm_start",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
