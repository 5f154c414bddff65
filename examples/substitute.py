"""Rank substitutions on one site of SrTiO3: the other sites keep their elements.

python examples/substitute.py
"""

from crystal_agents import load_policy
from crystal_gym import load_collection

policy = load_policy("goldschmidt/egnn")
crystal = load_collection("goldschmidt").structure("SrTiO3")
symbols = [site.specie.symbol for site in crystal]

# The oxygen sites and one cation are kept. Every charge-neutral element may replace the other.
for kept, replaced in (("Ti", "Sr"), ("Sr", "Ti")):
    fillings = policy.fill(
        crystal, keep_elements=["O", kept], mask="charge-neutral", samples=500, seed=0
    )
    site = symbols.index(replaced)
    print(f"In place of {replaced} in {crystal.composition.reduced_formula}:")
    for rank, filled in enumerate(fillings[:5], start=1):
        element = filled.structure[site].specie.symbol
        print(f"{rank}. {element}: p = {filled.probabilities[site]:.3f} ({filled.formula})")
