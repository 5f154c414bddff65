"""Rows of an evaluation: the metrics of one policy, baseline or the ground truth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from crystal_agents.evaluation.groups import GroupMetrics, metrics_by_group
from crystal_agents.evaluation.metrics import (
    METRICS,
    SITE_METRICS,
    accuracy_of_filled,
    calibration_error,
    calibration_gaps,
    compositions,
    is_novel,
    mean_by_site,
    mean_over_filled,
    swap_accuracy,
    symmetry_equivalent_accuracy,
)
from crystal_agents.evaluation.most_probable import random_assignments, true_in_beam
from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.evaluation.structure_match import structure_matches
from crystal_agents.rollouts.rollout import CrystalBatch, RolloutResult, Scorer, roll_out
from crystal_gym.crystals.validity import RULES, is_valid
from crystal_gym.episode import EpisodeTable
from crystal_gym.masks import Mask, no_mask

# Metrics that groups of sites have, and their values by site.
_BY_SITE = {
    "accuracy": "per_site",
    "teacher_forced": "forced_per_site",
    "top5": "top5_per_site",
}

# Values of one run by metric, each with one entry per crystal.
_Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class EvaluationRow:
    """Metrics of one policy, baseline or the ground truth.

    Attributes:
        runs: Number of runs (seeds) that are averaged.
        metrics: Metrics by their name in ``METRICS``. Intervals are over the runs, or over the
            crystals of a single run. ``unique`` and ``ece`` of a single run have no interval,
            because they are not means over crystals.
        per_site: Free-running accuracy by site number, (N,).
        top5_per_site: ``top5`` by site number; ``None`` for baselines, which have no probabilities.
        ece_per_site: ``ece`` of the choices at each site number; ``None`` for baselines.
        groups: Metrics of the sites of each group, by grouping and label, see
            ``crystal_agents.evaluation.groups``. Intervals are over the crystals.
    """

    runs: int
    metrics: dict[str, MeanWithCI]
    per_site: list[float]
    top5_per_site: list[float] | None = None
    ece_per_site: list[float] | None = None
    groups: dict[str, dict[str, GroupMetrics]] = field(default_factory=dict)


@dataclass(frozen=True)
class ExtraMetrics:
    """Metrics that take longer, or describe parts of the crystals.

    Attributes:
        by: Groupings of the sites, keys of ``crystal_agents.evaluation.groups.GROUPINGS``.
        structure_matcher: Also compute ``structure_match``.
        beam: K of ``beam`` and ``beam_symmetry``, from one start site; ``None`` leaves them out.
    """

    by: Sequence[str] = ()
    structure_matcher: bool = False
    beam: int | None = None


class RowEvaluator:
    """Evaluator of scorers on one table of crystals.

    Args:
        table: The crystals.
        train: Rows of the training crystals. Compositions that none of them has are novel.
        symmetries: Permutations of the sites that count as equivalent, by row of the table, (P, n).
        extra: Further metrics.
        labels: Group of each site by grouping, by row of the table, str (N,).
    """

    def __init__(
        self,
        table: EpisodeTable,
        train: np.ndarray,
        symmetries: Mapping[int, np.ndarray],
        extra: ExtraMetrics | None = None,
        labels: Mapping[str, Mapping[int, np.ndarray]] | None = None,
    ) -> None:
        self.table = table
        self.symmetries = symmetries
        self.extra = extra or ExtraMetrics()
        self.labels = labels or {}
        self.known_compositions = compositions(table.collection.atomic_numbers[train])

    def policy_row(
        self,
        scorers: Sequence[Scorer],
        batches: Sequence[CrystalBatch],
        advance: Callable[[int], None],
    ) -> EvaluationRow:
        """Evaluate one or more runs, free-running and in the expert's states.

        Args:
            scorers: One scorer per run; the scores are logits.
            batches: The crystals and their start sites.
            advance: Called with 1 after each run.
        """
        runs = []
        for scorer in scorers:
            free = [roll_out(self.table, batch, scorer) for batch in batches]
            forced = [roll_out(self.table, batch, scorer, teacher_forced=True) for batch in batches]
            runs.append(self._values(free, forced) | self._beam(scorer, batches))
            advance(1)
        return self._summarize(runs, batches)

    def free_running_row(
        self,
        scorers: Sequence[Scorer],
        batches: Sequence[CrystalBatch],
        advance: Callable[[int], None],
        mask: Mask = no_mask,
        *,
        by_beam: bool = False,
    ) -> EvaluationRow:
        """Evaluate baselines or masked policies, without metrics in the expert's states.

        Args:
            scorers: One scorer per run.
            batches: The crystals and their start sites.
            advance: Called with 1 after each run.
            mask: The elements that may be chosen.
            by_beam: Also search the most probable fillings; the scores are logits.
        """
        runs = []
        for scorer in scorers:
            free = [roll_out(self.table, batch, scorer, mask=mask) for batch in batches]
            beam = self._beam(scorer, batches, mask) if by_beam else {}
            runs.append(self._values(free) | beam)
            advance(1)
        return self._summarize(runs, batches)

    def ground_truth_row(self, batches: Sequence[CrystalBatch]) -> EvaluationRow:
        """Evaluate the crystals themselves: the scores of a perfect policy."""
        perfect = [
            RolloutResult(
                batch,
                self.table.true_elements[batch.crystals][None],
                np.zeros((1, 1, 1)),
                np.ones((1, 1, 1)),
            )
            for batch in batches
        ]
        return self._summarize([self._values(perfect)], batches)

    def random_assignment_row(self, batches: Sequence[CrystalBatch]) -> EvaluationRow:
        """Return the expected metrics of random assignments of the true elements to the sites."""
        parts = []
        for batch in batches:
            sites = batch.order[0, :, batch.n_kept : int(self.table.n_sites[batch.crystals[0]])]
            true = np.take_along_axis(self.table.true_elements[batch.crystals], sites, 1)
            values = random_assignments(true, self.extra.beam or 1)
            n_filled = np.full(len(sites), sites.shape[1])
            parts.append({**values, "n_filled": n_filled, "composition": np.ones(len(sites))})
        run = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        if self.extra.beam is None:
            del run["beam"]
        metrics = {
            name: MeanWithCI.of(run[name]) for name in METRICS if name in run
        } | _site_metrics([run])
        return EvaluationRow(1, metrics, [])

    def _beam(
        self, scorer: Scorer, batches: Sequence[CrystalBatch], mask: Mask = no_mask
    ) -> _Values:
        """Search the most probable fillings of each crystal, if asked for."""
        if self.extra.beam is None:
            return {}
        found = [
            true_in_beam(
                self.table,
                batch,
                scorer,
                [self.symmetries[row] for row in batch.crystals.tolist()],
                width=self.extra.beam,
                mask=mask,
            )
            for batch in batches
        ]
        exact, symmetry = (
            np.concatenate(part).astype(np.float64) for part in zip(*found, strict=True)
        )
        return {"beam": exact, "beam_symmetry": symmetry}

    def _values(
        self, free: Sequence[RolloutResult], forced: Sequence[RolloutResult] = ()
    ) -> _Values:
        """Compute the values of one run, averaged over the start sites of each crystal.

        Args:
            free: Free-running rollouts, one per batch.
            forced: Teacher-forced rollouts of the same batches, or none.

        Returns:
            Values (S,) by metric; values by site, whose names end with ``per_site``, (S, N), NaN
            where a crystal does not have the site; calibration gaps (S, N, bins).
        """
        parts = [self._free_running_values(result) for result in free]
        for part, result in zip(parts, forced, strict=False):
            filled, top5 = result.batch.filled, result.rank < 5
            part["teacher_forced"] = mean_over_filled(result.rank == 0, filled, (0, 2))
            part["top5"] = mean_over_filled(top5, filled, (0, 2))
            part["forced_per_site"] = self._padded(mean_over_filled(result.rank == 0, filled, 0))
            part["top5_per_site"] = self._padded(mean_over_filled(top5, filled, 0))
            part["gaps_per_site"] = self._padded(calibration_gaps(result))
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _free_running_values(self, result: RolloutResult) -> _Values:
        crystals = result.batch.crystals
        true = self.table.true_elements[crystals]
        n = int(self.table.n_sites[crystals[0]])
        n_kept, filled = result.batch.n_kept, result.batch.filled
        correct = (result.elements == true)[..., :n]
        symmetry = symmetry_equivalent_accuracy(
            result.elements[..., :n],
            true[:, :n],
            [self.symmetries[row] for row in crystals.tolist()],
        )
        swap = swap_accuracy(result.elements[..., :n], true[:, :n])
        numbers = self.table.vocabulary.decode(result.elements)
        same = np.sort(result.elements[..., :n], 2) == np.sort(true[:, :n], 1)
        match = (
            {"structure_match": structure_matches(self.table, crystals, result.elements[..., :n])}
            if self.extra.structure_matcher
            else {}
        )
        return {
            "n_filled": np.full(len(crystals), n - n_kept),
            "composition": same.all(2).mean(0),
            **{name: matches.mean(0) for name, matches in match.items()},
            "accuracy": mean_over_filled(correct, filled, (0, 2)),
            "exact": correct.all(2).mean(0),
            "symmetry": accuracy_of_filled(symmetry, n, n_kept).mean(0),
            "swap": accuracy_of_filled(swap, n, n_kept).mean(0),
            **{f"validity_{rule}": is_valid(numbers, rule).mean(0) for rule in RULES},
            "novel": is_novel(numbers, self.known_compositions).mean(0),
            "per_site": self._padded(mean_over_filled(correct, filled, 0)),
            "first_filling": result.elements[0],
        }

    def _summarize(self, runs: Sequence[_Values], batches: Sequence[CrystalBatch]) -> EvaluationRow:
        """Average the values of one or more runs."""
        metrics = {}
        for name in METRICS:
            values = [value for run in runs if (value := _metric(run, name)) is not None]
            if not values:
                continue
            # Runs differ by their seeds. In a single run, only the crystals are a sample.
            sample = values[0].ravel() if len(runs) == 1 else np.array([v.mean() for v in values])
            metrics[name] = MeanWithCI.of(sample)
        metrics |= _site_metrics(runs)
        per_site = {
            key: np.stack([mean_by_site(run[key]) for run in runs])
            for key in ("per_site", "top5_per_site", "gaps_per_site")
            if key in runs[0]
        }
        if "gaps_per_site" in per_site:
            per_site["ece_per_site"] = calibration_error(per_site.pop("gaps_per_site"))
        return EvaluationRow(
            len(runs),
            {name: metrics[name] for name in METRICS if name in metrics},
            **{key: values.mean(0).tolist() for key, values in per_site.items()},
            groups=self._groups(runs, batches),
        )

    def _groups(
        self, runs: Sequence[_Values], batches: Sequence[CrystalBatch]
    ) -> dict[str, dict[str, GroupMetrics]]:
        """Average the values by site of all runs over the groups of each grouping."""
        crystals = np.concatenate([batch.crystals for batch in batches]).tolist()
        values = {
            name: np.mean([run[key] for run in runs], 0)
            for name, key in _BY_SITE.items()
            if key in runs[0]
        }
        return {
            name: metrics_by_group(values, np.stack([labels[row] for row in crystals]))
            for name, labels in self.labels.items()
        }

    def _padded(self, values: np.ndarray) -> np.ndarray:
        """Pad values of n sites, (S, n, ...), to N sites with NaN, (S, N, ...)."""
        missing = self.table.max_sites - values.shape[1]
        shape = (len(values), missing, *values.shape[2:])
        return np.concatenate([values, np.full(shape, np.nan)], 1)


def _site_metrics(runs: Sequence[_Values]) -> dict[str, MeanWithCI]:
    """Return the means over all sites, unless all crystals have equally many."""
    n_filled = runs[0]["n_filled"]
    if not len(n_filled) or np.ptp(n_filled) == 0:
        return {}
    metrics = {}
    for name, source in SITE_METRICS.items():
        if source not in runs[0]:
            continue
        totals = [run[source] * n_filled for run in runs]
        metrics[name] = (
            MeanWithCI.of_ratio(totals[0], n_filled)
            if len(runs) == 1
            else MeanWithCI.of(np.array([total.sum() / n_filled.sum() for total in totals]))
        )
    return metrics


def _metric(run: _Values, name: str) -> np.ndarray | None:
    """Return a metric of one run: (S,), or () where it is not a mean over crystals."""
    if name == "unique":
        fillings = run["first_filling"]
        return np.array(len(np.unique(fillings, axis=0)) / len(fillings))
    if name == "ece" and "gaps_per_site" in run:
        # Every crystal counts once, as in the other metrics.
        return calibration_error(np.nanmean(run["gaps_per_site"], 1).mean(0))
    return run.get(name)
