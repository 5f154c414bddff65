"""Agents that fill crystal skeletons: networks, policies, training, evaluation and online RL.

Names are imported when they are first used, so that ``import crystal_agents`` does not load
PyTorch.
"""

from typing import TYPE_CHECKING

from crystal_gym.utils.lazy import lazy_names

if TYPE_CHECKING:
    from crystal_agents.evaluation.evaluate import evaluate
    from crystal_agents.online.vec_env import SkeletonVecEnv
    from crystal_agents.online.warm_start import extract_policy, from_scratch, warm_start
    from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy, load_policy
    from crystal_agents.policies.pretrained import pretrained_policies
    from crystal_agents.rollouts.complete_structure import FilledStructure
    from crystal_agents.training.behavioral_cloning import train
    from crystal_agents.training.recipes import RECIPES, Recipe

_HOMES = {
    "FilledStructure": "crystal_agents.rollouts.complete_structure",
    "PolicyConfig": "crystal_agents.policies.config",
    "RECIPES": "crystal_agents.training.recipes",
    "Recipe": "crystal_agents.training.recipes",
    "SkeletonPolicy": "crystal_agents.policies.policy",
    "SkeletonVecEnv": "crystal_agents.online.vec_env",
    "evaluate": "crystal_agents.evaluation.evaluate",
    "from_scratch": "crystal_agents.online.warm_start",
    "extract_policy": "crystal_agents.online.warm_start",
    "load_policy": "crystal_agents.policies.policy",
    "pretrained_policies": "crystal_agents.policies.pretrained",
    "train": "crystal_agents.training.behavioral_cloning",
    "warm_start": "crystal_agents.online.warm_start",
}

__all__ = [
    "RECIPES",
    "FilledStructure",
    "PolicyConfig",
    "Recipe",
    "SkeletonPolicy",
    "SkeletonVecEnv",
    "evaluate",
    "extract_policy",
    "from_scratch",
    "load_policy",
    "pretrained_policies",
    "train",
    "warm_start",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
