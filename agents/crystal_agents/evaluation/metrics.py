"""FIXDOC."""

from collections.abc import Sequence

import numpy as np

from crystal_agents.rollouts.rollout import (
    RolloutResult,
)
from crystal_gym.crystals.validity import RULES

# Figures in the order of the tables, with what they mean.
METRICS: dict[str, str] = {
    "accuracy": "sites filled as in the crystal, free-running from the empty skeleton",
    "teacher_forced": "right choices in the expert's own states",
    "top5": "true element among the five most probable, in the expert's own states",
    "ece": "expected calibration error of the probabilities, in the expert's own states",
    "exact": "crystals filled without any mistake",
    "symmetry": "accuracy by the best of the site permutations that the skeleton's symmetry allows",
    "swap": "accuracy after the best exchange of two sites",
    **{f"validity_{rule}": f"compositions valid by SMACT, rule {rule}" for rule in RULES},
    "unique": "distinct fillings among those from the lowest start site",
    "novel": "compositions that no training crystal has",
}


# Bins of the expected calibration error, all of one width (Guo et al. 2017).
_BINS = 15


def calibration_gaps(filled: RolloutResult) -> np.ndarray:
    """Right choices less their probabilities, by bin of probability, (S, n, bins).

    Means over the sources. The mean over sites and crystals is, for each bin, its share of all
    choices times the difference between their accuracy and their mean probability.
    """
    bin_of = np.clip(np.ceil(filled.confidence * _BINS) - 1, 0, _BINS - 1)
    gap = (filled.rank == 0) - filled.confidence
    return np.where(bin_of[..., None] == np.arange(_BINS), gap[..., None], 0.0).mean(0)


def calibration_error(gaps: np.ndarray) -> np.ndarray:
    """Expected calibration error from the mean gaps of the bins, (..., bins) to (...)."""
    return np.abs(gaps).sum(-1)


def composition(numbers: np.ndarray) -> tuple[int, ...]:
    """The atomic numbers of a crystal's sites, sorted; 0, where there is no site, left out."""
    return tuple(sorted(number for number in numbers.tolist() if number > 0))


def symmetry_equivalent_accuracy(
    elements: np.ndarray, true: np.ndarray, permutations: Sequence[np.ndarray]
) -> np.ndarray:
    """Accuracy after the permutation of the sites that helps most, (K, S).

    Args:
        elements: codes (K, S, n).
        true: codes (S, n).
        permutations: those allowed for each of the S crystals, groups, (P, n).
    """
    n = elements.shape[-1]
    match = elements[..., :, None] == true[..., None, :]
    # Many skeletons have the same few permutations.
    alike: dict[bytes, list[int]] = {}
    for s, allowed in enumerate(permutations):
        alike.setdefault(allowed.tobytes(), []).append(s)
    best = np.empty(elements.shape[:2])
    for members in alike.values():
        allowed = permutations[members[0]]
        right = match[:, members][..., np.arange(n), allowed].sum(-1)
        best[:, members] = right.max(-1) / n
    return best


def swap_accuracy(elements: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Accuracy after the exchange of two sites that helps most, (K, S).

    Args:
        elements: codes (K, S, n).
        true: codes (S, n).
    """
    match = elements[..., :, None] == true[..., None, :]
    here = np.diagonal(match, axis1=-2, axis2=-1).astype(np.int64)
    both = match.astype(np.int64) + match.swapaxes(-1, -2)
    gain = both - here[..., :, None] - here[..., None, :]
    return (here.sum(-1) + gain.max((-1, -2)).clip(0)) / elements.shape[-1]


def mean_by_site(values: np.ndarray) -> np.ndarray:
    """Mean over crystals, (S, N, ...) to (N, ...); NaN where no crystal has the site."""
    filled = (~np.isnan(values)).sum(0)
    return np.where(filled, np.nansum(values, 0) / np.maximum(filled, 1), np.nan)
