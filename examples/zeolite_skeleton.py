"""Fill a zeolite skeleton with charge-neutral compositions.

python examples/zeolite_skeleton.py
"""

from collections import Counter

from pymatgen.core import Lattice, Structure

from crystal_agents import load_policy

policy = load_policy("mp-20/mpnn")

# The framework SOD of sodalite: six tetrahedral sites and twelve bridging sites in the primitive
# cell (Baerlocher and McCusker, Database of Zeolite Structures). Its elements are unknown.
framework = Structure.from_spacegroup(
    "Im-3m",
    Lattice.cubic(8.965),
    ["X1", "X2"],
    [[0.25, 0.5, 0], [0.3524, 0.3524, 0]],
).get_primitive_structure()
print(f"{len(framework)} sites")

tetrahedral = ["B", "Al", "Si", "P", "Ga", "Ge", "Zn", "Be", "As"]
fillings = policy.fill(
    framework, elements=[*tetrahedral, "O", "N", "S"], mask="charge-neutral", beam=50
)
by_formula = Counter()
for filled in fillings:
    by_formula.setdefault(filled.formula, filled.log_probability)
for rank, (formula, log_probability) in enumerate(list(by_formula.items())[:8], start=1):
    print(f"{rank}. {formula}: log p = {log_probability:.2f}")
