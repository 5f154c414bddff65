"""Evaluation of conditional policies: the labels of what they fill against the requested ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crystal_agents.evaluation.metrics import compositions, is_novel
from crystal_agents.evaluation.returns import GreedyEpisodes, greedy_returns, nan_means
from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_agents.policies.targets import require_conditional
from crystal_gym.crystals.validity import is_valid
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError
from crystal_gym.masks import Mask, resolve_mask
from crystal_gym.rewards import resolve_reward
from crystal_gym.rewards.label_lookup import label_table

if TYPE_CHECKING:
    from crystal_gym.collections.collection import CrystalCollection

# Percentiles of the training labels that are requested by default.
PERCENTILES = (0.5, 5, 25, 50, 75, 95, 99.5)
# Value of ``TargetRow.asked`` in rows without a request.
UNCONDITIONAL = None


@dataclass(frozen=True)
class TargetRow:
    """Fillings of the crystals of a split for one requested value.

    Attributes:
        asked: The requested value of the label; ``None``: nothing is requested.
        guidance: Strength of the guidance by the target.
        measured: Mean label of the fillings that have one; NaN if none has.
        deviation: Standard deviation of these labels.
        error: Mean absolute difference between measured and requested; NaN without a request.
        metrics: ``labeled``, the fraction of fillings with a label; ``validity_strict``;
            ``unique``, the fraction of distinct fillings; ``novel``, the fraction with a
            composition of no training crystal; ``accuracy``, the fraction of sites with the true
            element; and ``return``, the mean return, if a reward is given.
    """

    asked: float | None
    guidance: float
    measured: float
    deviation: float
    error: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class TargetReport:
    """Evaluation of a conditional policy on one label.

    Attributes:
        label: Name of the label.
        split: The split.
        n_crystals: Number of skeletons.
        rows: One row for each guidance and requested value, and one without a request.
        correlation: Pearson correlation of requested and measured values over all requests, by
            guidance.
        reward: Name of the reward of ``return``; empty if there is none.
        labels_sha256: Fingerprint of the labels.
    """

    label: str
    split: str
    n_crystals: int
    rows: list[TargetRow]
    correlation: dict[float, float]
    reward: str
    labels_sha256: str | None


def evaluate_targets(
    policy: SkeletonPolicy,
    collection: "CrystalCollection",
    split: str,
    *,
    label: str | None = None,
    values: Sequence[float] = (),
    guidance: Sequence[float] = (0.0, 1.0, 2.0),
    reward: str = "",
    mask: str | Mask = "none",
    advance: Callable[[int], None] = lambda _: None,
) -> TargetReport:
    """Ask a policy for values of a label on the skeletons of a split and look up what it fills.

    Each skeleton is filled greedily from one start site.

    Args:
        policy: A conditional policy.
        collection: The crystals, cubic ABX3 cells with the label.
        split: ``train``, ``val``, ``test`` or ``all``.
        label: Name of the label (default: the first one of the policy).
        values: Requested values (default: percentiles of the training labels, from 0.5 to 99.5).
        guidance: Strengths of the guidance.
        reward: Name of a reward whose return is measured as well.
        mask: The elements that may be chosen.
        advance: Called with 1 after each row.

    Raises:
        CrystalGymError: If the policy is unconditional or was not trained for the label, if a value
            is outside the range of the training labels, or if the collection has no such labels.
    """
    targets = require_conditional(policy.targets)
    label = label or targets.names[0]
    if label not in targets.names:
        raise CrystalGymError(
            f"Expected a label for which the policy was trained ({', '.join(targets.names)}), got "
            f"{label!r}."
        )
    table = EpisodeTable(collection, policy.vocabulary)
    labels = label_table(table, label)
    if not len(values):
        values = requested_percentiles(collection, label)
    rows = collection.in_split(split)
    known = compositions(collection.atomic_numbers[collection.in_split("train")])
    chosen_reward = resolve_reward(reward or "match")
    report: list[TargetRow] = []
    correlation = {}

    def measure(asked: float | None, strength: float) -> np.ndarray:
        target = {} if asked is None else {label: asked}
        scorer = PolicyScorer(policy, table, target, strength)
        episodes = greedy_returns(scorer, table, rows, chosen_reward, mask=resolve_mask(mask))
        elements, metrics = episodes.elements, _mean_metrics(episodes, table, known)
        found = labels.find(elements)
        measured = np.where(found < 0, np.nan, labels.values[found])
        metrics = {"labeled": float(np.isfinite(measured).mean()), **metrics}
        if not reward:
            del metrics["return"]
        known_labels = measured[np.isfinite(measured)]
        mean = deviation = error = float("nan")
        if known_labels.size:
            mean, deviation = float(known_labels.mean()), float(known_labels.std())
            error = error if asked is None else float(np.abs(known_labels - asked).mean())
        report.append(TargetRow(asked, strength, mean, deviation, error, metrics))
        advance(1)
        return measured

    measure(UNCONDITIONAL, 0.0)
    for strength in guidance:
        measured = np.stack([measure(float(value), float(strength)) for value in values])
        correlation[float(strength)] = _correlation(np.asarray(values), measured)
    return TargetReport(
        label,
        split,
        len(rows),
        report,
        correlation,
        reward,
        collection.labels_fingerprint([label]),
    )


def requested_percentiles(collection: "CrystalCollection", label: str) -> list[float]:
    """Return the percentiles of a label over the training crystals that are requested by default.

    Args:
        collection: The crystals.
        label: Name of the label.
    """
    values = collection.labels[label][collection.in_split("train")]
    return np.nanpercentile(values, PERCENTILES).round(3).tolist()


def _mean_metrics(
    episodes: GreedyEpisodes, table: EpisodeTable, known: set[tuple[int, ...]]
) -> dict[str, float]:
    numbers = table.vocabulary.decode(episodes.elements)
    means = nan_means(episodes.metrics).means
    return {
        "validity_strict": float(is_valid(numbers, "strict").mean()),
        "unique": len(np.unique(episodes.elements, axis=0)) / len(episodes.elements),
        "novel": float(is_novel(numbers, known).mean()),
        "accuracy": means["match"],
        "return": means["return"],
    }


def _correlation(asked: np.ndarray, measured: np.ndarray) -> float:
    """Return the correlation of requested values, (R,), and measured ones, (R, C), without NaN.

    It is 0 if one of them is constant, or no value was measured.
    """
    known = np.isfinite(measured)
    pairs = np.broadcast_to(asked[:, None], measured.shape)[known], measured[known]
    if not known.any() or min(map(np.ptp, pairs)) == 0:
        return 0.0
    return float(np.corrcoef(*pairs)[0, 1])
