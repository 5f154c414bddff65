"""Metrics of finished crystals against the ground truth."""

from collections.abc import Sequence

import numpy as np

from crystal_agents.rollouts.rollout import RolloutResult
from crystal_gym.crystals.validity import RULES

# Definitions of the metrics, in the order of the tables. All are fractions.
METRICS: dict[str, str] = {
    "accuracy": "accuracy: filled sites with the true element, free-running from the start",
    "teacher_forced": "teacher-forced accuracy: choices of the true element in the expert's states",
    "top5": "top-5 accuracy: true element among the five most probable, in the expert's states",
    "accuracy_sites": "accuracy over all sites: large crystals count more",
    "teacher_forced_sites": "teacher-forced accuracy over all sites",
    "top5_sites": "top-5 accuracy over all sites",
    "ece": "expected calibration error of the probabilities, in the expert's states",
    "exact": "exact reproduction: crystals with the true element on every site",
    "symmetry": "symmetry-equivalent accuracy: the best accuracy over the site permutations in the "
    "skeleton's space group",
    "composition": "crystals with the true composition",
    "swap": "best-swap accuracy: the best accuracy over exchanges of two sites",
    **{f"validity_{rule}": f"compositions that are valid under the rule {rule}" for rule in RULES},
    "structure_match": "crystals that match the true one by pymatgen's StructureMatcher, with the "
    "tolerances of CDVAE",
    "beam": "true filling among the K most probable ones of a beam search of width K",
    "beam_symmetry": "a filling that is equivalent to the true one by symmetry among them",
    "unique": "distinct fillings among those from the first start site of each crystal",
    "novel": "compositions that no training crystal has",
}

# Metrics over all sites, and the metric of one crystal whose mean they weight by its filled sites.
# They are omitted where all crystals have equally many sites.
SITE_METRICS = {
    "accuracy_sites": "accuracy",
    "teacher_forced_sites": "teacher_forced",
    "top5_sites": "top5",
}

# Bins of equal width for the expected calibration error (Guo et al., 2017).
_BINS = 15


def calibration_gaps(result: RolloutResult) -> np.ndarray:
    """Compute correctness minus confidence by bin of confidence, averaged over start sites.

    The mean over sites and crystals is, for each bin, the fraction of choices in the bin times the
    difference between their accuracy and their mean confidence.

    Args:
        result: A teacher-forced rollout of S crystals with n sites from K start sites.

    Returns:
        Gaps, float64 (S, n, bins); NaN at sites that are kept in all episodes.
    """
    bin_of = np.clip(np.ceil(result.confidence * _BINS) - 1, 0, _BINS - 1)
    gap = (result.rank == 0) - result.confidence
    gaps = np.where(bin_of[..., None] == np.arange(_BINS), gap[..., None], 0.0)
    return mean_over_filled(gaps, result.batch.filled, 0)


def mean_over_filled(
    values: np.ndarray, filled: np.ndarray, axis: int | tuple[int, ...]
) -> np.ndarray:
    """Average over the sites and episodes that were filled, not kept.

    Args:
        values: Values of each site, (K, S, n) or (K, S, n, ...).
        filled: Whether each site was filled, bool (K, S, n).
        axis: The axes to average over, among the first three.

    Returns:
        Means; NaN where no site was filled.
    """
    if filled.all():
        return values.mean(axis)
    where = filled.reshape(*filled.shape, *[1] * (values.ndim - 3))
    count = where.sum(axis)
    total = np.where(where, values, 0.0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def accuracy_of_filled(accuracy: np.ndarray, n_sites: int, n_kept: int) -> np.ndarray:
    """Convert an accuracy over all sites to that over the filled sites.

    Args:
        accuracy: Fraction of all sites with their true elements, the kept sites among them.
        n_sites: Number of sites, n.
        n_kept: Number of kept sites, below n.
    """
    if not n_kept:
        return accuracy
    return (accuracy * n_sites - n_kept) / (n_sites - n_kept)


def calibration_error(gaps: np.ndarray) -> np.ndarray:
    """Compute the expected calibration error from the mean gaps of the bins.

    Args:
        gaps: Mean gaps, (..., bins).

    Returns:
        Errors between 0 and 1, (...).
    """
    return np.abs(gaps).sum(-1)


def composition(numbers: np.ndarray) -> tuple[int, ...]:
    """Return the sorted atomic numbers of a crystal.

    Args:
        numbers: Atomic numbers of the sites, (N,), padded with 0.
    """
    return tuple(sorted(number for number in numbers.tolist() if number > 0))


def compositions(numbers: np.ndarray) -> set[tuple[int, ...]]:
    """Return the distinct compositions of crystals.

    Args:
        numbers: Atomic numbers of the sites, (C, N), padded with 0.
    """
    return {composition(sites) for sites in numbers}


def is_novel(numbers: np.ndarray, known: set[tuple[int, ...]]) -> np.ndarray:
    """Return whether each crystal has a composition that is not known, bool (...).

    Args:
        numbers: Atomic numbers of the sites, (..., N), padded with 0.
        known: The known compositions.
    """
    novel = [composition(sites) not in known for sites in numbers.reshape(-1, numbers.shape[-1])]
    return np.reshape(novel, numbers.shape[:-1])


def symmetry_equivalent_accuracy(
    elements: np.ndarray, true: np.ndarray, permutations: Sequence[np.ndarray]
) -> np.ndarray:
    """Compute the best accuracy over the allowed permutations of each crystal's sites.

    Args:
        elements: Codes of the chosen elements, (K, S, n).
        true: Codes of the true elements, (S, n).
        permutations: Allowed permutations of each of the S crystals, (P, n).

    Returns:
        Accuracies, float64 (K, S).
    """
    n = elements.shape[-1]
    match = elements[..., :, None] == true[..., None, :]
    # Many skeletons share the same few permutations.
    crystals_by_symmetry: dict[bytes, list[int]] = {}
    for crystal, allowed in enumerate(permutations):
        crystals_by_symmetry.setdefault(allowed.tobytes(), []).append(crystal)
    best = np.empty(elements.shape[:2])
    for crystals in crystals_by_symmetry.values():
        allowed = permutations[crystals[0]]
        n_correct = match[:, crystals][..., np.arange(n), allowed].sum(-1)
        best[:, crystals] = n_correct.max(-1) / n
    return best


def swap_accuracy(elements: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Compute the best accuracy over all exchanges of two sites, and without an exchange.

    Args:
        elements: Codes of the chosen elements, (K, S, n).
        true: Codes of the true elements, (S, n).

    Returns:
        Accuracies, float64 (K, S).
    """
    match = elements[..., :, None] == true[..., None, :]
    correct = np.diagonal(match, axis1=-2, axis2=-1).astype(np.int64)
    swapped = match.astype(np.int64) + match.swapaxes(-1, -2)
    gain = swapped - correct[..., :, None] - correct[..., None, :]
    return (correct.sum(-1) + gain.max((-1, -2)).clip(0)) / elements.shape[-1]


def mean_by_site(values: np.ndarray) -> np.ndarray:
    """Average over the crystals that have each site.

    Args:
        values: Values of each site, (S, N, ...); NaN where a crystal does not have the site.

    Returns:
        Means, (N, ...); NaN where no crystal has the site.
    """
    count = (~np.isnan(values)).sum(0)
    return np.where(count, np.nansum(values, 0) / np.maximum(count, 1), np.nan)
