"""Reward for a wanted band gap, from Castelli's DFT values of Perov-5's crystals."""

import numpy as np

from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards.failure_handling import finite
from crystal_gym.rewards.label_lookup import LabelReward, LabelTable

# Which gap → its label.
GAPS = {"indirect": "ind_gap", "direct": "dir_gap"}


class Perov5GapReward(LabelReward):
    """How near the crystal's band gap is to a wanted one: exp(-(gap - target)² / 1 eV²).

    From 0 to 1, the form that the benchmark CrystalGym (Govindarajan et al., 2025) gives to the
    gap. The gap is that of the crystal in its own lattice, whatever the skeleton's. Fillings that
    Perov-5 does not hold are missing, see ``Perov5DftReward``.

    Components: ``gap`` in eV, ``labelled``, ``regret``.

    Args:
        target: the wanted gap in eV (default: that of silicon, as in CrystalGym).
        gap: ``indirect``, between the band edges wherever they are, or ``direct``.
        missing: see ``LabelReward``; ``worst`` is the lowest reward of a crystal in the table.

    Raises:
        CrystalGymError: the target is no number from 0 on.
        UnknownNameError: no such gap or policy.
    """

    def __init__(self, target: float = 1.12, gap: str = "indirect", missing: str = "worst") -> None:
        if not isinstance(gap, str) or gap not in GAPS:
            raise UnknownNameError("band gap", gap, GAPS)
        super().__init__(GAPS[gap], missing)
        self.target = finite(target, "A wanted band gap (eV)")
        if self.target < 0:
            raise CrystalGymError(f"A wanted band gap is at least 0 eV, not {target!r}.")

    def judge(
        self, labels: LabelTable, skeleton: np.ndarray, found: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The nearness, and component ``gap``."""
        gap = labels.values[found]
        return self._nearness(gap), {"gap": gap}

    def extremes(self, labels: LabelTable) -> tuple[np.ndarray, float]:
        """The highest and the lowest nearness in the table; skeletons do not matter."""
        nearness = self._nearness(labels.values)
        return np.full(len(nearness), np.nanmax(nearness)), float(np.nanmin(nearness))

    def _nearness(self, gap: np.ndarray) -> np.ndarray:
        return np.exp(-((gap - self.target) ** 2))
