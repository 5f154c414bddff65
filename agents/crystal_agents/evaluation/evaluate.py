"""Evaluation of policies on a split, next to baselines and the ground truth."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from crystal_agents.evaluation.baselines import (
    most_frequent,
    most_frequent_per_site,
    nearest_skeleton,
    uniform,
)
from crystal_agents.evaluation.groups import group_labels
from crystal_agents.evaluation.rows import EvaluationRow, ExtraMetrics, RowEvaluator
from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_agents.policies.targets import TargetValues
from crystal_agents.rollouts.rollout import Scorer, batch_by_size
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.collections.symmetries import skeleton_symmetries
from crystal_gym.crystals.validity import RULES, rule_description
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, SymmetryWarning
from crystal_gym.masks import Mask, resolve_mask
from crystal_gym.utils.progress import progress_bar

GROUND_TRUTH = "ground truth"
# Expected metrics of a uniformly random assignment of the true elements to the sites.
RANDOM_ASSIGNMENT = "random assignment"


@dataclass(frozen=True)
class Report:
    """Result of an evaluation.

    Attributes:
        collection: Name of the collection.
        collection_sha256: Fingerprint of the collection.
        split: The split that was evaluated.
        n_crystals: Number of crystals that were evaluated: all of the split, or a sample of it.
        n_start_sites: Start sites per crystal, over which the metrics of a policy are averaged.
        rows: Rows by name: the policies, the baselines and the ground truth.
        n_symmetry_failures: Number of crystals without a space group. Only the identity counts as
            a symmetry of their skeletons.
        validity_rules: Definition of each rule of the metrics ``validity_…``, with the version of
            SMACT.
    """

    collection: str
    collection_sha256: str
    split: str
    n_crystals: int
    n_start_sites: int
    rows: dict[str, EvaluationRow]
    n_symmetry_failures: int = 0
    validity_rules: dict[str, str] = field(
        default_factory=lambda: {rule: rule_description(rule) for rule in RULES}
    )


def evaluate(
    policies: Mapping[str, Sequence[SkeletonPolicy]],
    collection: CrystalCollection,
    split: str = "test",
    *,
    rules: Mapping[str, Callable[[EpisodeTable], Scorer]] | None = None,
    mask: str | Mask = "none",
    target: TargetValues | None = None,
    guidance: float = 0.0,
    start: str = "empty",
    keep: float | Sequence[int] | None = None,
    n_start_sites: int = 5,
    baselines: bool = True,
    n_crystals: int | None = None,
    extra: ExtraMetrics | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """Evaluate policies on the crystals of a split.

    Args:
        policies: Runs (seeds) of each policy, by name; all have the same vocabulary.
        collection: The crystals. Their elements must be in the vocabulary.
        split: ``train``, ``val``, ``test`` or ``all``.
        rules: Functions that create other scorers from the table of the crystals, by name. Scores
            are log-probabilities. Each scorer has a row of its own.
        mask: An action mask. Unless it is ``none``, each policy, rule and baseline has another row
            with it.
        start: ``empty``, or ``partial`` to keep the true elements of some sites from the start.
            Accuracies, ranks and calibration are those of the other sites.
        keep: The kept sites of a partial start, as in the environment: a fraction (float) or site
            numbers (default: 0.5). Those of an episode are the same in expert datasets.
        target: Requested labels of conditional policies by name (default: no request).
        guidance: Strength of the guidance by the target, see ``SkeletonPolicy.forward``.
        n_start_sites: Start sites per crystal.
        baselines: Also evaluate baselines that use no chemistry, and the ground truth.
        n_crystals: Evaluate a random sample of this many crystals (default: all).
        extra: Further metrics, see ``ExtraMetrics``.
        seed: Seed of the sample, the start sites, the kept sites and the uniform baseline.
        progress: Show progress bars.

    Warns:
        SymmetryWarning: If skeletons have no space group; the report has their number.

    Raises:
        CrystalGymError: If the vocabulary or the number of sites of a policy does not fit, the
            split is empty, ``keep`` does not fit, ``n_start_sites``, ``n_crystals`` or the beam is
            below 1, ``seed`` is below 0, or a target is invalid or given to an unconditional
            policy.
        UnknownNameError: If there is no such grouping.
        DamagedFileError: If cached symmetries are damaged.
        StorageError: If the cache folder of the symmetries cannot be written.
    """
    crystals = collection.in_split(split)
    if not len(crystals):
        raise CrystalGymError(
            f"Expected crystals in the split {split!r} of {collection.name!r}, got none. Choose "
            "another split."
        )
    extra = extra or ExtraMetrics()
    if extra.beam is not None and extra.beam < 1:
        raise CrystalGymError(f"Expected a beam width of at least 1, got {extra.beam}.")
    if n_crystals is not None:
        crystals = _sample(crystals, n_crystals, seed)
    runs = [policy for group in policies.values() for policy in group]
    table = EpisodeTable(collection, runs[0].vocabulary if runs else None)
    batches = partial(batch_by_size, table, crystals, seed=seed, start=start, keep=keep)
    all_starts, one_start = list(batches(n_start_sites)), list(batches(1))
    train = collection.in_split("train")
    symmetries = skeleton_symmetries(collection, crystals, progress=progress)
    _warn_of_failures(collection, symmetries.failures, len(crystals))
    labels = {name: _labels(collection, crystals, name, progress) for name in extra.by}
    evaluator = RowEvaluator(table, train, symmetries.permutations, extra, labels)
    scorers: dict[str, list[Scorer]] = {
        name: [PolicyScorer(policy, table, target, guidance) for policy in group]
        for name, group in policies.items()
    }
    scorers |= {name: [rule(table)] for name, rule in (rules or {}).items()}
    masked = {} if mask == "none" else {f"{name}, masked": group for name, group in scorers.items()}
    baseline_scorers = _baseline_scorers(table, train, seed) if baselines else {}
    # A second generator of the uniform baseline, so that its row without a mask does not change.
    masked_baselines = (
        {}
        if mask == "none" or not baselines
        else {
            f"{name}, masked": scorer
            for name, scorer in _baseline_scorers(table, train, seed).items()
        }
    )
    total = sum(map(len, [*scorers.values(), *masked.values()]))
    total += len(baseline_scorers) + len(masked_baselines)
    rows: dict[str, EvaluationRow] = {}
    with progress_bar("Filling crystals", total, shown=progress) as advance:
        for name, group in scorers.items():
            rows[name] = evaluator.policy_row(group, all_starts, advance)
        for name, group in masked.items():
            rows[name] = evaluator.free_running_row(
                group, all_starts, advance, resolve_mask(mask), by_beam=True
            )
        for name, scorer in baseline_scorers.items():
            rows[name] = evaluator.free_running_row([scorer], one_start, advance)
        for name, scorer in masked_baselines.items():
            rows[name] = evaluator.free_running_row(
                [scorer], one_start, advance, resolve_mask(mask)
            )
    if baselines and mask == "composition":
        rows[RANDOM_ASSIGNMENT] = evaluator.random_assignment_row(one_start)
    if baselines:
        rows[GROUND_TRUTH] = evaluator.ground_truth_row(one_start)
    return Report(
        collection=collection.name,
        collection_sha256=collection.fingerprint(),
        split=split,
        n_crystals=len(crystals),
        n_start_sites=n_start_sites,
        rows=rows,
        n_symmetry_failures=len(symmetries.failures),
    )


def _sample(crystals: np.ndarray, n_crystals: int, seed: int) -> np.ndarray:
    """Return a random sample of rows, in ascending order, or all of them if there are fewer."""
    if n_crystals < 1:
        raise CrystalGymError(
            f"Expected at least one crystal, got {n_crystals}. Pass a larger number of crystals."
        )
    rng = np.random.default_rng(seed)
    return np.sort(rng.permutation(crystals)[:n_crystals])


def _labels(
    collection: CrystalCollection, crystals: np.ndarray, name: str, progress: bool
) -> dict[int, np.ndarray]:
    """Return the group of each site by row of the collection."""
    labels = {}
    with progress_bar(f"Groups by {name}", len(crystals), shown=progress) as advance:
        for chunk in np.array_split(crystals, max(1, len(crystals) // 100)):
            labels |= zip(chunk.tolist(), group_labels(collection, chunk, name), strict=True)
            advance(len(chunk))
    return labels


def _warn_of_failures(
    collection: CrystalCollection, failures: Mapping[int, str], n_crystals: int
) -> None:
    """Warn of skeletons without a space group; ``failures`` are their reasons by row."""
    if failures:
        row, reason = next(iter(failures.items()))
        warnings.warn(
            f"{len(failures)} of {n_crystals} skeletons count as asymmetric in the "
            f"symmetry-equivalent accuracy. The first is crystal {str(collection.ids[row])!r}: "
            f"{reason}",
            SymmetryWarning,
            stacklevel=3,
        )


def _baseline_scorers(table: EpisodeTable, train: np.ndarray, seed: int) -> dict[str, Scorer]:
    scorers: dict[str, Scorer] = {"uniform": uniform(table.n_elements, seed)}
    if len(train):
        scorers |= {
            "most frequent element": most_frequent(table, train),
            "most frequent per site": most_frequent_per_site(table, train),
            "nearest skeleton": nearest_skeleton(table, train),
        }
    return scorers
