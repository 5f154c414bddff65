"""Reward from DFT energies of the crystals in Perov-5."""

import functools

import numpy as np

from crystal_gym.rewards.label_lookup import N_SITES, LabelReward, LabelTable, heat_label
from crystal_gym.rewards.validation import require_finite

_GPA_PER_EV_PER_CUBIC_ANGSTROM = 160.21766208
# Number of skeletons whose optima are computed together; the arrays fit the processor's cache.
_BLOCK = 16


class Perov5DftReward(LabelReward):
    """Minus the DFT energy of the crystal, strained to the lattice of the skeleton, in eV/atom.

    reward = -(heat + strain). ``heat`` is Castelli's heat of formation relative to the most stable
    phases in a pool of references; it is negative for crystals that are more stable than these.
    ``strain`` is the ``strain_energy`` of changing the crystal's own lattice constant to that of
    the skeleton; shifts of sites along x are ignored. The optimum of each skeleton, and so the
    regret, is exact over all crystals of Perov-5.

    A label belongs to the elements on the sites A, B, X1, X2 and X3. Crystals that are not in
    Perov-5 have no label: those with anions on A or B, cations on X, another set of anions, or
    mixed anions in another order than in CDVAE's files, where the odd anion is on X1.

    Components: ``heat`` and ``strain`` in eV/atom, ``labeled`` and ``regret``, see
    ``LabelReward``.

    Args:
        bulk_modulus: Bulk modulus of all crystals, in GPa.
        missing: See ``LabelReward``; ``worst`` is minus the highest heat in the table, without
            strain.
        heat: ``original``, the label ``heat_all``, or ``corrected``, see ``heat_label``.

    Raises:
        CrystalGymError: If the bulk modulus is not a finite number of at least 0.
        UnknownNameError: If the heat or the policy for missing labels does not exist.
    """

    scores = ("heat", "strain")

    def __init__(
        self, bulk_modulus: float = 160.0, missing: str = "worst", heat: str = "original"
    ) -> None:
        super().__init__((heat_label(heat),), missing)
        self.bulk_modulus = require_finite(bulk_modulus, "bulk_modulus (GPa)", minimum=0)

    def score(
        self, labels: LabelTable, skeleton: np.ndarray, crystal: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return -(heat + strain), and both as components; see ``LabelReward.score``."""
        heat = labels.values[crystal]
        a = labels.lattice_constant
        strain = strain_energy(a[skeleton], a[crystal], self.bulk_modulus)
        return -(heat + strain), {"heat": heat, "strain": strain}

    def best_rewards(self, labels: LabelTable) -> np.ndarray:
        """Return the highest reward on each skeleton, (C,)."""
        return _best_rewards(labels, self.bulk_modulus)

    def worst_reward(self, labels: LabelTable) -> float:
        """Return minus the highest heat in the table, in eV/atom."""
        return -float(np.nanmax(labels.values))


def strain_energy(
    skeleton: np.ndarray, crystal: np.ndarray, bulk_modulus: float, n_sites: int = N_SITES
) -> np.ndarray:
    """Compute the elastic energy of cubic crystals with a changed lattice constant, in eV/atom.

    The energy is harmonic in the linear strain e = (a - a0) / a0. With the volume V0 = a0³ and the
    volume strain 3e, E = B V0 (3e)² / 2 = (9/2) B a0 (a - a0)², divided by the number of atoms.

    Args:
        skeleton: a, the imposed lattice constant in Å.
        crystal: a0, the crystal's own lattice constant in Å, broadcast against ``skeleton``.
        bulk_modulus: B in GPa.
        n_sites: Number of atoms in the cell.
    """
    stiffness = 4.5 * bulk_modulus / _GPA_PER_EV_PER_CUBIC_ANGSTROM / n_sites
    return stiffness * crystal * (skeleton - crystal) ** 2


@functools.lru_cache(maxsize=4)
def _best_rewards(labels: LabelTable, bulk_modulus: float) -> np.ndarray:
    """Return the highest reward of a labeled crystal on each skeleton, (C,)."""
    heat, own = labels.values[labels.labeled], labels.lattice_constant[labels.labeled]
    blocks = np.split(labels.lattice_constant, range(_BLOCK, len(labels.labeled), _BLOCK))
    return np.concatenate(
        [-(heat + strain_energy(a[:, None], own, bulk_modulus)).min(axis=1) for a in blocks]
    )
