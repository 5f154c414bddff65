"""Synthetic crystals of one prototype, sampled from a density p(geometry | elements)."""

from crystal_agents.synthetic.generation import (
    SyntheticConfig,
    SyntheticCrystals,
    SyntheticGenerator,
)
from crystal_agents.synthetic.prototype import NoPrototypeError, Prototype

__all__ = [
    "NoPrototypeError",
    "Prototype",
    "SyntheticConfig",
    "SyntheticCrystals",
    "SyntheticGenerator",
]
