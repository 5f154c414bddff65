"""Reward for a target band gap, from DFT band gaps of the crystals in Perov-5."""

import numpy as np

from crystal_gym.errors import UnknownNameError
from crystal_gym.rewards.label_lookup import LabelReward, LabelTable
from crystal_gym.rewards.validation import require_finite

# Labels by kind of gap.
GAPS = {"indirect": "ind_gap", "direct": "dir_gap"}


class Perov5GapReward(LabelReward):
    """Similarity of the crystal's band gap to a target, exp(-(gap - target)² / 1 eV²), from 0 to 1.

    The benchmark CrystalGym (Govindarajan et al., 2025) scores band gaps in the same form. The
    labels are Castelli's DFT values of each crystal in its own lattice; the lattice of the skeleton
    has no effect. Crystals that are not in Perov-5 have no label, see ``Perov5DftReward``.

    Components: ``gap`` in eV, ``labeled`` and ``regret``, see ``LabelReward``.

    Args:
        target: Target gap in eV (default: the gap of silicon, as in CrystalGym).
        gap: ``indirect``, between band edges at any two k-points, or ``direct``, at one k-point.
        missing: See ``LabelReward``; ``worst`` is the lowest reward of a crystal in the table.

    Raises:
        CrystalGymError: If the target is not a finite number of at least 0.
        UnknownNameError: If the gap or the policy for missing labels does not exist.
    """

    scores = ("gap",)

    def __init__(self, target: float = 1.12, gap: str = "indirect", missing: str = "worst") -> None:
        if not isinstance(gap, str) or gap not in GAPS:
            raise UnknownNameError("band gap", gap, GAPS)
        super().__init__((GAPS[gap],), missing)
        self.target = require_finite(target, "target (eV)", minimum=0)

    def score(
        self, labels: LabelTable, skeleton: np.ndarray, crystal: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the similarity and the component ``gap``; see ``LabelReward.score``."""
        gap = labels.values[crystal]
        return self._similarity(gap), {"gap": gap}

    def best_rewards(self, labels: LabelTable) -> np.ndarray:
        """Return the highest similarity in the table for every skeleton, (C,)."""
        similarity = self._similarity(labels.values)
        return np.full(len(similarity), np.nanmax(similarity))

    def worst_reward(self, labels: LabelTable) -> float:
        """Return the lowest similarity in the table."""
        return float(np.nanmin(self._similarity(labels.values)))

    def _similarity(self, gap: np.ndarray) -> np.ndarray:
        return np.exp(-((gap - self.target) ** 2))
