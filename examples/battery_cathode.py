"""Rank substitutes for cobalt in LiCoO2, the cathode of many lithium-ion batteries.

python examples/battery_cathode.py
"""

from pymatgen.core import Lattice, Structure

from crystal_agents import load_policy

policy = load_policy("mp-20/mpnn")

# Layered LiCoO2 (Orman and Wiseman, Acta Cryst. C 40, 12, 1984), in its primitive cell.
cathode = Structure.from_spacegroup(
    "R-3m",
    Lattice.hexagonal(2.816, 14.05),
    ["Li", "Co", "O"],
    [[0, 0, 0], [0, 0, 0.5], [0, 0, 0.2395]],
).get_primitive_structure()

# Lithium and oxygen keep their sites. A beam of the size of the vocabulary ranks all elements.
fillings = policy.fill(
    cathode, keep_elements=["Li", "O"], mask="charge-neutral", beam=len(policy.vocabulary)
)
site = [site.specie.symbol for site in cathode].index("Co")
print(f"In place of Co in {cathode.composition.reduced_formula}:")
for rank, filled in enumerate(fillings[:10], start=1):
    element = filled.structure[site].specie.symbol
    print(f"{rank}. {element}: p = {filled.probabilities[site]:.3f} ({filled.formula})")
