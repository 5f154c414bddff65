"""Fill the skeleton of a CIF file with a pretrained policy.

python examples/fill_a_cif.py SrTiO3.cif
"""

import sys

from crystal_agents import load_policy

if len(sys.argv) != 2:
    sys.exit(__doc__)
policy = load_policy("goldschmidt/egnn")
fillings = policy.fill(sys.argv[1], samples=100)

for rank, filled in enumerate(fillings[:5], start=1):
    valid = "valid" if filled.valid else "invalid"
    print(f"{filled.formula}: log p = {filled.log_probability:.2f}, {filled.count} of 100, {valid}")
    filled.structure.to(filename=f"filled-{rank}.cif")
