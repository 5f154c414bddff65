"""Fill a skeleton and let a quantum-mechanical code judge the crystal, through ASE.

    python examples/dft_reward.py                    # ASE's toy potential, seconds
    python examples/dft_reward.py --calculator gpaw  # density-functional theory, minutes

The skeleton is that of NiAl (the structure of CsCl); nickel and aluminium can be put on its two
sites in four ways. Any other calculator of ASE takes GPAW's place: make its object, with settings
that suit every cell, and hand it to the reward. GPAW is installed as https://gpaw.readthedocs.io
tells (a C compiler, libxc and a BLAS; its PAW data by `gpaw install-data`).
"""

import argparse
import itertools

import gymnasium as gym
from pymatgen.core import Lattice, Structure

import crystal_gym  # noqa: F401 - registers the environment
from crystal_gym.rewards import FormationEnergyReward

parser = argparse.ArgumentParser(description="Fill NiAl's skeleton and compute its energy.")
parser.add_argument("--calculator", choices=["emt", "gpaw"], default="emt")
args = parser.parse_args()

if args.calculator == "gpaw":
    try:
        from gpaw import GPAW
    except ModuleNotFoundError:
        parser.error("GPAW is not installed; see https://gpaw.readthedocs.io/install.html.")
    # Not converged to the last meV; the density of k-points suits cells of any size.
    reward = FormationEnergyReward(
        GPAW(
            mode={"name": "pw", "ecut": 350},
            xc="PBE",
            kpts={"density": 3.0, "gamma": True},
            occupations={"name": "fermi-dirac", "width": 0.1},
            txt=None,
        )
    )
else:
    reward = FormationEnergyReward("emt")

skeleton = Structure(Lattice.cubic(2.887), ["Ni", "Al"], [[0, 0, 0], [0.5, 0.5, 0.5]])
env = gym.make(
    "CrystalSkeleton-v0", collection=[skeleton], split="all", start_site=0, reward=reward
)
symbols = env.unwrapped.table.vocabulary.symbols
for actions in itertools.product(range(len(symbols)), repeat=2):
    env.reset()
    for action in actions:
        _, paid, _, _, info = env.step(action)
    filled = "".join(symbols[action] for action in actions)
    failed = " (no energy)" if info["failed"] else ""
    print(f"{filled}: reward {paid:+.3f}, {info['formation_energy']:+.3f} eV/atom{failed}")
