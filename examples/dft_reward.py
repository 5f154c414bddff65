"""Reward a filled skeleton by its formation energy from an ASE calculator.

    python examples/dft_reward.py                    # ASE's effective-medium theory, seconds
    python examples/dft_reward.py --calculator gpaw  # density-functional theory, minutes

The skeleton is that of NiAl (CsCl structure), whose two sites can be filled with nickel and
aluminum in four ways. Any other ASE calculator can replace GPAW: create it with settings that suit
every cell and pass it to the reward. https://gpaw.readthedocs.io describes the installation of GPAW
(a C compiler, libxc and a BLAS; its PAW data by `gpaw install-data`).
"""

import argparse
import itertools

import gymnasium as gym
from pymatgen.core import Lattice, Structure

import crystal_gym  # noqa: F401 - registers the environment
from crystal_gym.rewards import FormationEnergyReward

parser = argparse.ArgumentParser(
    description="Fill the skeleton of NiAl and compute formation energies."
)
parser.add_argument("--calculator", choices=["emt", "gpaw"], default="emt")
args = parser.parse_args()

if args.calculator == "gpaw":
    try:
        from gpaw import GPAW
    except ModuleNotFoundError:
        parser.error("GPAW is not installed; see https://gpaw.readthedocs.io/install.html.")
    # Not converged to 1 meV; a k-point density suits cells of any size.
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
        _, value, _, _, info = env.step(action)
    filled = "".join(symbols[action] for action in actions)
    failed = " (no energy)" if info["failed"] else ""
    print(f"{filled}: reward {value:+.3f}, {info['formation_energy']:+.3f} eV/atom{failed}")
