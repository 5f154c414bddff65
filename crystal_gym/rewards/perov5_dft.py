"""Reward from Castelli's DFT energies of Perov-5's crystals."""

import functools

import numpy as np

from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards.failure_handling import finite
from crystal_gym.rewards.label_lookup import N_SITES, LabelReward, LabelTable

_GPA_IN_EV_PER_CUBIC_ANGSTROM = 160.21766208
# Skeletons a block in the search for their optima: the block stays in the processor's cache.
_BLOCK = 16


class Perov5DftReward(LabelReward):
    """Minus the DFT energy of the crystal, strained to the skeleton's lattice, in eV/atom.

    reward = -(heat + strain), where heat is the label ``heat_all``: the heat of formation against
    the most stable phases of Castelli's pool of references, below 0 for a crystal more stable than
    these. strain is ``strain_energy`` for bringing the crystal from its own lattice constant to the
    skeleton's; the shifts of sites along x do not enter. With all labels at hand the optimum of
    each skeleton is known, and so the regret.

    The elements are taken as they stand on A, B, X1, X2, X3. Fillings that Perov-5 does not hold
    are missing: anions on A or B, cations on X, other anion sets, and orders of the anions other
    than CDVAE's, where the odd one is on X1.

    Components: ``heat`` and ``strain`` in eV/atom, ``labelled``, ``regret``.

    Args:
        bulk_modulus: GPa, the same for all crystals.
        missing: see ``LabelReward``; ``worst`` is minus the highest heat in the table, without
            strain.

    Raises:
        CrystalGymError: the bulk modulus is no number from 0 on.
        UnknownNameError: no such policy.
    """

    def __init__(self, bulk_modulus: float = 160.0, missing: str = "worst") -> None:
        super().__init__("heat_all", missing)
        self.bulk_modulus = finite(bulk_modulus, "A bulk modulus (GPa)")
        if self.bulk_modulus < 0:
            raise CrystalGymError(f"A bulk modulus is at least 0 GPa, not {bulk_modulus!r}.")

    def judge(
        self, labels: LabelTable, skeleton: np.ndarray, found: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Minus heat and strain, which are the components."""
        heat = labels.values[found]
        a = labels.lattice_constant
        strain = strain_energy(a[skeleton], a[found], self.bulk_modulus)
        return -(heat + strain), {"heat": heat, "strain": strain}

    def extremes(self, labels: LabelTable) -> tuple[np.ndarray, float]:
        """The optimum of each skeleton, and minus the highest heat."""
        return _optima(labels, self.bulk_modulus), -float(np.nanmax(labels.values))


def strain_energy(
    skeleton: np.ndarray, crystal: np.ndarray, bulk_modulus: float, n_sites: int = N_SITES
) -> np.ndarray:
    """Elastic energy of a cubic crystal whose lattice constant is changed, in eV/atom.

    Harmonic in the linear strain e = (a - a0) / a0, with the crystal's own volume V0 = a0³ and the
    volume strain 3e: E = B V0 (3e)² / 2 = (9/2) B a0 (a - a0)², shared by the atoms.

    Args:
        skeleton: a, the lattice constant that is imposed, in Å.
        crystal: a0, the crystal's own, in Å, broadcast against the other.
        bulk_modulus: B in GPa.
        n_sites: atoms in the cell.
    """
    stiffness = 4.5 * bulk_modulus / _GPA_IN_EV_PER_CUBIC_ANGSTROM / n_sites
    return stiffness * crystal * (skeleton - crystal) ** 2


@functools.lru_cache(maxsize=4)
def _optima(labels: LabelTable, bulk_modulus: float) -> np.ndarray:
    """The highest reward that a labelled crystal has on each skeleton, (C,)."""
    heat, own = labels.values[labels.labelled], labels.lattice_constant[labels.labelled]
    blocks = np.split(labels.lattice_constant, range(_BLOCK, len(labels.labelled), _BLOCK))
    return np.concatenate(
        [-(heat + strain_energy(a[:, None], own, bulk_modulus)).min(axis=1) for a in blocks]
    )
