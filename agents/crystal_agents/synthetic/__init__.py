"""Synthetic crystals of a prototype, drawn from a density p(geometry | elements)."""

from crystal_agents.synthetic.crystals import Model, Synthesis, SyntheticCrystals
from crystal_agents.synthetic.prototype import NoPrototypeError, Prototype

__all__ = ["Model", "NoPrototypeError", "Prototype", "Synthesis", "SyntheticCrystals"]
