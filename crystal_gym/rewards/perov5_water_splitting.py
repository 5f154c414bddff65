"""Rewards for solar water splitting: the criteria of a published search on the grid of Perov-5.

The criteria are those of Jain et al., J. Mater. Sci. 48, 6519 (2013), as in
``fitness_evaluators.py`` of their code, https://github.com/mp-interns/ga_optimization_ternary
(``eval_fitness_simple`` and ``eval_fitness_simple_oxide_shield`` at their highest values). The
labels are described in ``crystal_gym.collections.perov5_labels``.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards.label_lookup import LabelReward, LabelTable, heat_label
from crystal_gym.rewards.validation import require_finite

# Default margins of the shaped rewards by quantity: heat in eV/atom, gap and edge in eV.
MARGINS = {"heat": 1.0, "gap": 1.5, "edge": 1.0}

_HIGHEST_HEAT = 0.2


@dataclass(frozen=True)
class Criterion:
    """A range of values of a label.

    Attributes:
        label: Name of the label.
        quantity: ``heat``, ``gap`` or ``edge``, which selects the margin.
        low: Lowest value that meets the criterion, in the unit of the label.
        high: Highest value that meets the criterion, in the unit of the label.
    """

    label: str
    quantity: str
    low: float = -math.inf
    high: float = math.inf

    def violation(self, values: np.ndarray) -> np.ndarray:
        """Return the distances of values from the range, 0 inside, NaN for NaN."""
        return np.maximum(np.maximum(self.low - values, values - self.high), 0.0)


# Sets of criteria; a crystal must meet all criteria of at least one set.
_Alternatives = tuple[tuple[Criterion, ...], ...]


class CriteriaReward(LabelReward):
    """Base class of rewards for crystals that meet criteria on labels.

    Without margins, the reward is 1 if the crystal meets all criteria of one of the alternatives,
    else 0. With margins, it is the mean of max(0, 1 - d / m) over the criteria of an alternative,
    the highest of all alternatives; d is the distance of the label from its range and m the margin.
    It is 1 for the same crystals as without margins.

    Components: ``criteria_met``, 1 or 0, NaN where a label is missing; ``labeled`` and ``regret``,
    see ``LabelReward``.

    Args:
        alternatives: Sets of criteria.
        margins: Margins by quantity, ``None`` for a reward of 0 or 1. Defaults of absent entries
            are ``MARGINS``.
        missing: See ``LabelReward``; ``worst`` is the lowest reward of a crystal in the table.

    Raises:
        CrystalGymError: If a margin is not a finite number above 0.
        UnknownNameError: If a margin or the policy for missing labels does not exist.
    """

    scores = ("criteria_met",)

    def __init__(
        self, alternatives: _Alternatives, margins: Mapping[str, float] | None, missing: str
    ) -> None:
        criteria = dict.fromkeys(criterion for group in alternatives for criterion in group)
        super().__init__(tuple(dict.fromkeys(c.label for c in criteria)), missing)
        self.alternatives = alternatives
        self.margins = None if margins is None else _checked_margins(margins)
        self.definition = _describe(alternatives, self.margins)

    def score(
        self, labels: LabelTable, skeleton: np.ndarray, crystal: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the rewards and the component ``criteria_met``; see ``LabelReward.score``."""
        rewards, met = self._evaluate(labels)
        return rewards[crystal], {"criteria_met": met[crystal]}

    def best_rewards(self, labels: LabelTable) -> np.ndarray:
        """Return the highest reward in the table for every skeleton, (C,)."""
        rewards, _ = self._evaluate(labels)
        return np.full(len(rewards), np.nanmax(rewards))

    def worst_reward(self, labels: LabelTable) -> float:
        """Return the lowest reward in the table."""
        return float(np.nanmin(self._evaluate(labels)[0]))

    def _evaluate(self, labels: LabelTable) -> tuple[np.ndarray, np.ndarray]:
        margins = None if self.margins is None else tuple(self.margins.items())
        return _evaluate(labels, self.alternatives, margins)


class Perov5WaterSplittingReward(CriteriaReward):
    """1 at the end of the episode for a crystal that could split water in sunlight, else 0.

    Such a crystal has a heat of formation of at most 0.2 eV/atom and, for the direct or the
    indirect gap, a gap from 1.5 to 3.0 eV whose valence-band edge is at least 5.73 eV and whose
    conduction-band edge is at most 4.5 eV below vacuum. These are 20 crystals of Perov-5, with both
    versions of the heat. The lattice of the skeleton has no effect.

    Components: ``criteria_met``, ``labeled`` and ``regret``, see ``CriteriaReward``.

    Args:
        margins: ``None`` for a reward of 0 or 1; for a shaped reward, the distances from the ranges
            at which a criterion counts 0: ``heat`` in eV/atom, ``gap`` and ``edge`` in eV, with
            the defaults ``MARGINS``. See ``CriteriaReward``.
        heat: ``original`` or ``corrected``, see ``heat_label``.
        missing: See ``LabelReward``; ``worst`` is the lowest reward of a crystal in the table.

    Raises:
        CrystalGymError: If a margin is not a finite number above 0.
        UnknownNameError: If the heat, a margin or the policy for missing labels does not exist.
    """

    def __init__(
        self,
        margins: Mapping[str, float] | None = None,
        heat: str = "original",
        missing: str = "worst",
    ) -> None:
        stable = Criterion(heat_label(heat), "heat", high=_HIGHEST_HEAT)
        alternatives = tuple(
            (
                stable,
                Criterion(f"{kind}_gap", "gap", 1.5, 3.0),
                Criterion(f"vb_{kind}", "edge", low=5.73),
                Criterion(f"cb_{kind}", "edge", high=4.5),
            )
            for kind in ("dir", "ind")
        )
        super().__init__(alternatives, margins, missing)


class Perov5PhotocorrosionShieldReward(CriteriaReward):
    """1 at the end of the episode for a transparent shield against photocorrosion, else 0.

    Such a crystal has a heat of formation of at most 0.2 eV/atom, a direct gap of at least 3.0 eV,
    and a valence-band edge, that of the direct or of the indirect gap, from 6.2 to 7.0 eV below
    vacuum. These are 8 crystals of Perov-5 with the corrected heats, as published, and 6 of them
    with the original heats. The lattice of the skeleton has no effect.

    Components: ``criteria_met``, ``labeled`` and ``regret``, see ``CriteriaReward``.

    Args:
        margins: As in ``Perov5WaterSplittingReward``.
        heat: ``corrected`` or ``original``, see ``heat_label``.
        missing: See ``LabelReward``; ``worst`` is the lowest reward of a crystal in the table.

    Raises:
        CrystalGymError: If a margin is not a finite number above 0.
        UnknownNameError: If the heat, a margin or the policy for missing labels does not exist.
    """

    def __init__(
        self,
        margins: Mapping[str, float] | None = None,
        heat: str = "corrected",
        missing: str = "worst",
    ) -> None:
        stable = Criterion(heat_label(heat), "heat", high=_HIGHEST_HEAT)
        transparent = Criterion("dir_gap", "gap", low=3.0)
        alternatives = tuple(
            (stable, transparent, Criterion(f"vb_{kind}", "edge", 6.2, 7.0))
            for kind in ("dir", "ind")
        )
        super().__init__(alternatives, margins, missing)


def _checked_margins(margins: object) -> dict[str, float]:
    if not isinstance(margins, Mapping):
        raise CrystalGymError(
            f"Expected margins to be a mapping such as {MARGINS} or None, got {margins!r}."
        )
    checked = dict(MARGINS)
    for name, value in margins.items():
        if name not in MARGINS:
            raise UnknownNameError("margin", name, MARGINS)
        unit = "eV/atom" if name == "heat" else "eV"
        checked[name] = require_finite(value, f"the margin {name} ({unit})", minimum=0)
        if not checked[name]:
            raise CrystalGymError(
                f"Expected the margin {name} ({unit}) to be above 0, got {value!r}. Use "
                "margins=None for a reward of 0 or 1."
            )
    return checked


def _describe(alternatives: _Alternatives, margins: Mapping[str, float] | None) -> str:
    groups = [
        " and ".join(
            f"{c.label} ≤ {c.high:g}"
            if c.low == -math.inf
            else f"{c.label} ≥ {c.low:g}"
            if c.high == math.inf
            else f"{c.low:g} ≤ {c.label} ≤ {c.high:g}"
            for c in group
        )
        for group in alternatives
    ]
    text = "criteria (eV): " + " or ".join(groups)
    if margins is None:
        return text
    return f"{text}; margins " + ", ".join(f"{name} {value:g}" for name, value in margins.items())


@functools.lru_cache(maxsize=8)
def _evaluate(
    labels: LabelTable,
    alternatives: _Alternatives,
    margins: tuple[tuple[str, float], ...] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the reward of each crystal and whether it meets the criteria, float64 (C,), or NaN."""
    met = np.zeros(len(labels.labeled))
    for group in alternatives:
        violations = np.array([c.violation(labels.columns[c.label]) for c in group])
        met = np.maximum(met, (violations == 0).all(axis=0))
    met = np.where(labels.labeled, met, np.nan)
    if margins is None:
        return met, met
    shaped = shaped_scores(alternatives, dict(margins), labels.columns)
    return np.where(labels.labeled, shaped, np.nan), met


def shaped_scores(
    alternatives: Sequence[Sequence[Criterion]],
    margins: Mapping[str, float],
    columns: Mapping[str, np.ndarray],
) -> np.ndarray:
    """Return the shaped rewards of crystals with given labels.

    A criterion counts from 1 where it is met to 0 at its margin. The reward is the mean over the
    criteria of the set for which it is highest.

    Args:
        alternatives: Sets of criteria.
        margins: Margins by quantity, in eV/atom or eV.
        columns: The labels by name, all of the same shape, in eV/atom or eV.
    """
    scores = [
        np.mean(
            [np.maximum(1 - c.violation(columns[c.label]) / margins[c.quantity], 0) for c in group],
            axis=0,
        )
        for group in alternatives
    ]
    return np.max(scores, axis=0)
