"""Rows of an evaluation: the metrics of one policy, baseline or the ground truth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crystal_agents.evaluation.metrics import (
    METRICS,
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
from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.rollouts.rollout import CrystalBatch, RolloutResult, Scorer, roll_out
from crystal_gym.crystals.validity import RULES, is_valid
from crystal_gym.episode import EpisodeTable
from crystal_gym.masks import Mask, no_mask

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
    """

    runs: int
    metrics: dict[str, MeanWithCI]
    per_site: list[float]
    top5_per_site: list[float] | None = None
    ece_per_site: list[float] | None = None


class RowEvaluator:
    """Evaluator of scorers on one table of crystals.

    Args:
        table: The crystals.
        train: Rows of the training crystals. Compositions that none of them has are novel.
        symmetries: Permutations of the sites that count as equivalent, by row of the table, (P, n).
    """

    def __init__(
        self, table: EpisodeTable, train: np.ndarray, symmetries: Mapping[int, np.ndarray]
    ) -> None:
        self.table = table
        self.symmetries = symmetries
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
            runs.append(self._values(free, forced))
            advance(1)
        return _summarize(runs)

    def free_running_row(
        self,
        scorers: Sequence[Scorer],
        batches: Sequence[CrystalBatch],
        advance: Callable[[int], None],
        mask: Mask = no_mask,
    ) -> EvaluationRow:
        """Evaluate baselines or masked policies, without metrics in the expert's states.

        Args:
            scorers: One scorer per run.
            batches: The crystals and their start sites.
            advance: Called with 1 after each run.
            mask: The elements that may be chosen.
        """
        runs = []
        for scorer in scorers:
            free = [roll_out(self.table, batch, scorer, mask=mask) for batch in batches]
            runs.append(self._values(free))
            advance(1)
        return _summarize(runs)

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
        return _summarize([self._values(perfect)])

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
        return {
            "accuracy": mean_over_filled(correct, filled, (0, 2)),
            "exact": correct.all(2).mean(0),
            "symmetry": accuracy_of_filled(symmetry, n, n_kept).mean(0),
            "swap": accuracy_of_filled(swap, n, n_kept).mean(0),
            **{f"validity_{rule}": is_valid(numbers, rule).mean(0) for rule in RULES},
            "novel": is_novel(numbers, self.known_compositions).mean(0),
            "per_site": self._padded(mean_over_filled(correct, filled, 0)),
            "first_filling": result.elements[0],
        }

    def _padded(self, values: np.ndarray) -> np.ndarray:
        """Pad values of n sites, (S, n, ...), to N sites with NaN, (S, N, ...)."""
        missing = self.table.max_sites - values.shape[1]
        shape = (len(values), missing, *values.shape[2:])
        return np.concatenate([values, np.full(shape, np.nan)], 1)


def _summarize(runs: Sequence[_Values]) -> EvaluationRow:
    """Average the values of one or more runs."""
    metrics = {}
    for name in METRICS:
        values = [value for run in runs if (value := _metric(run, name)) is not None]
        if not values:
            continue
        # Runs differ by their seeds. In a single run, only the crystals are a sample.
        sample = values[0].ravel() if len(runs) == 1 else np.array([v.mean() for v in values])
        metrics[name] = MeanWithCI.of(sample)
    per_site = {
        key: np.stack([mean_by_site(run[key]) for run in runs])
        for key in ("per_site", "top5_per_site", "gaps_per_site")
        if key in runs[0]
    }
    if "gaps_per_site" in per_site:
        per_site["ece_per_site"] = calibration_error(per_site.pop("gaps_per_site"))
    return EvaluationRow(
        len(runs), metrics, **{key: values.mean(0).tolist() for key, values in per_site.items()}
    )


def _metric(run: _Values, name: str) -> np.ndarray | None:
    """Return a metric of one run: (S,), or () where it is not a mean over crystals."""
    if name == "unique":
        fillings = run["first_filling"]
        return np.array(len(np.unique(fillings, axis=0)) / len(fillings))
    if name == "ece" and "gaps_per_site" in run:
        # Every crystal counts once, as in the other metrics.
        return calibration_error(np.nanmean(run["gaps_per_site"], 1).mean(0))
    return run.get(name)
