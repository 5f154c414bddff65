"""Agents that fill crystal skeletons: networks, behavioral cloning, evaluation.

Names load when they are first used, so that ``import crystal_agents`` needs no PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crystal_agents.behavioral_cloning import train
    from crystal_agents.evaluation import evaluate
    from crystal_agents.policy import PolicyConfig, SkeletonPolicy, load_policy
    from crystal_agents.recipes import RECIPES, Recipe

_MODULE_OF = {
    "PolicyConfig": "policy",
    "RECIPES": "recipes",
    "Recipe": "recipes",
    "SkeletonPolicy": "policy",
    "evaluate": "evaluation",
    "load_policy": "policy",
    "train": "behavioral_cloning",
}

__all__ = [
    "RECIPES",
    "PolicyConfig",
    "Recipe",
    "SkeletonPolicy",
    "evaluate",
    "load_policy",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
