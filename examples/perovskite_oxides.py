"""Ten oxides for a perovskite skeleton, ranked by CHGNet's formation energy.

pip install "crystal-gym[energy]"
python examples/perovskite_oxides.py
"""

from pymatgen.core import Lattice, Structure

from crystal_agents import load_policy
from crystal_agents.rollouts.ranking import EnergyRanking

policy = load_policy("mp-20/mpnn")

sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
skeleton = Structure(Lattice.cubic(3.95), ["X", "X", "O", "O", "O"], sites)

# The ten most probable pairs of cations whose charges can cancel those of oxygen.
fillings = policy.fill(skeleton, keep_elements=["O"], mask="charge-neutral", beam=10)
for rank, filling in enumerate(EnergyRanking()(fillings), start=1):
    print(
        f"{rank}. {filling.filled.formula}: {filling.formation_energy:.3f} eV/atom, "
        f"log p = {filling.filled.log_probability:.2f}"
    )
