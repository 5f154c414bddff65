"""Synthetic crystals of one prototype, sampled from a density p(geometry | elements).

Names are imported when they are first used, so that the recipes do not load PyTorch.
"""

from typing import TYPE_CHECKING

from crystal_gym.utils.lazy import lazy_names

if TYPE_CHECKING:
    from crystal_agents.synthetic.config import DensityConfig, SyntheticConfig
    from crystal_agents.synthetic.generation import SyntheticCrystals, SyntheticGenerator
    from crystal_agents.synthetic.prototype import NoPrototypeError, Prototype

_HOMES = {
    "DensityConfig": "crystal_agents.synthetic.config",
    "NoPrototypeError": "crystal_agents.synthetic.prototype",
    "Prototype": "crystal_agents.synthetic.prototype",
    "SyntheticConfig": "crystal_agents.synthetic.config",
    "SyntheticCrystals": "crystal_agents.synthetic.generation",
    "SyntheticGenerator": "crystal_agents.synthetic.generation",
}

__all__ = [
    "DensityConfig",
    "NoPrototypeError",
    "Prototype",
    "SyntheticConfig",
    "SyntheticCrystals",
    "SyntheticGenerator",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
