"""How well crystals are filled: figures for policies, floors and the true crystals side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crystal_agents.evaluation import baselines
from crystal_agents.evaluation.metrics import (
    METRICS,
    calibration_error,
    calibration_gaps,
    composition,
    mean_by_site,
    swap_accuracy,
    symmetry_equivalent_accuracy,
)
from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_agents.rollouts.rollout import (
    CrystalBatch,
    RolloutResult,
    Scorer,
    batch_by_size,
    roll_out,
)
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.crystals.symmetry import site_permutations
from crystal_gym.crystals.validity import RULES, is_valid
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError
from crystal_gym.masks import Mask, no_mask, resolve_mask
from crystal_gym.utils.progress import progress_bar


@dataclass(frozen=True)
class EvaluationRow:
    """One line of the table.

    Attributes:
        runs: number of policies or seeds behind it.
        figures: by name of ``METRICS``; intervals are over runs, or over crystals of a single run
            where the figure is a mean over crystals: neither ``unique`` nor ``ece`` is one.
        per_site: free-running accuracy of each site number, (N,).
        top5_per_site: the same of ``top5``; ``None`` for floors, which have no probabilities.
        ece_per_site: the same of ``ece``: that of the choices on this site alone.
    """

    runs: int
    metrics: dict[str, MeanWithCI]
    per_site: list[float]
    top5_per_site: list[float] | None = None
    ece_per_site: list[float] | None = None


@dataclass(frozen=True)
class Report:
    """The figures of an evaluation.

    Attributes:
        collection: name of the collection.
        split: which crystals were filled.
        n_crystals: how many.
        n_start_sites: start sites per crystal, over which the figures of a policy are averaged.
        rows: by name: the policies, the floors, and the true crystals.
    """

    collection: str
    split: str
    n_crystals: int
    n_start_sites: int
    rows: dict[str, EvaluationRow]


def evaluate(
    policies: Mapping[str, Sequence[SkeletonPolicy]],
    collection: CrystalCollection,
    split: str = "test",
    *,
    rules: Mapping[str, Callable[[EpisodeTable], Scorer]] | None = None,
    mask: str | Mask = "none",
    n_start_sites: int = 5,
    floors: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """Fill the crystals of a split by every policy and every floor.

    Args:
        policies: by name, the runs (seeds) of each; all of one vocabulary.
        collection: the crystals; their elements must be in the vocabulary.
        split: ``train``, ``val``, ``test`` or ``all``.
        rules: by name, other ways of filling, made from the table of the crystals; their scores
            are log-probabilities. Each has a line of its own.
        mask: another line for each policy and rule tells how it fills under this action mask.
        n_start_sites: start sites per crystal.
        floors: also report rules that know no chemistry, and the true crystals.
        seed: of the sampled sources and the uniform floor.
        progress: show a progress bar.

    Raises:
        CrystalGymError: vocabularies or numbers of sites do not fit, the split is empty,
            ``n_start_sites`` is below 1, or ``seed`` below 0.
    """
    crystals = collection.in_split(split)
    if not len(crystals):
        raise CrystalGymError(f"The split {split!r} of {collection.name!r} has no crystals.")
    runs = [policy for group in policies.values() for policy in group]
    table = EpisodeTable(collection, runs[0].vocabulary if runs else None)
    all_sources = list(batch_by_size(table, crystals, n_start_sites, seed))
    one_source = list(batch_by_size(table, crystals, 1, seed))
    train = collection.in_split("train")
    evaluation = _Evaluation(table, train, _symmetries(collection, crystals, progress))
    scorers: dict[str, list[Scorer]] = {
        name: [PolicyScorer(policy, table) for policy in group] for name, group in policies.items()
    }
    scorers |= {name: [rule(table)] for name, rule in (rules or {}).items()}
    chosen = _floors(table, train, seed) if floors else {}
    rows: dict[str, EvaluationRow] = {}
    masked = {} if mask == "none" else {f"{name}, masked": group for name, group in scorers.items()}
    total = sum(map(len, [*scorers.values(), *masked.values()])) + len(chosen)
    with progress_bar("Filling crystals", total, shown=progress) as advance:
        for name, group in scorers.items():
            rows[name] = evaluation.row(group, all_sources, advance)
        for name, group in masked.items():
            rows[name] = evaluation.free_row(group, all_sources, advance, resolve_mask(mask))
        for name, group in chosen.items():
            rows[name] = evaluation.free_row(group, one_source, advance)
    if floors:
        rows["true crystals"] = evaluation.true_row(one_source)
    return Report(collection.name, split, len(crystals), n_start_sites, rows)


def _floors(table: EpisodeTable, train: np.ndarray, seed: int) -> dict[str, list[Scorer]]:
    floors: dict[str, list[Scorer]] = {"uniform": [baselines.uniform(table.n_elements, seed)]}
    if len(train):
        floors |= {
            "most frequent element": [baselines.most_frequent(table, train)],
            "most frequent per site": [baselines.most_frequent_per_site(table, train)],
            "nearest skeleton": [baselines.nearest_skeleton(table, train)],
        }
    return floors


def _symmetries(
    collection: CrystalCollection, crystals: np.ndarray, progress: bool
) -> dict[int, np.ndarray]:
    """By row, the permutations of each crystal's sites under its skeleton's symmetry, (P, n)."""
    lattices = lattice_matrix(collection.parameters[crystals])
    found = {}
    with progress_bar("Symmetry of the skeletons", len(crystals), shown=progress) as advance:
        for row, lattice in zip(crystals.tolist(), lattices, strict=True):
            sites = collection.frac_coords[row, : collection.n_sites[row]]
            found[row] = site_permutations(lattice, sites)
            advance(1)
    return found


class _Evaluation:
    """What all rows of one table share.

    Args:
        table: the crystals.
        train: rows of those whose compositions are known.
        symmetries: by row, the permutations of sites that count as the same, (P, n).
    """

    def __init__(
        self, table: EpisodeTable, train: np.ndarray, symmetries: Mapping[int, np.ndarray]
    ) -> None:
        self.table = table
        self.symmetries = symmetries
        self.known = {composition(row) for row in table.collection.atomic_numbers[train]}

    def row(
        self,
        scorers: Sequence[Scorer],
        groups: Sequence[CrystalBatch],
        advance: Callable[[int], None],
    ) -> EvaluationRow:
        """A row of one or more runs."""
        measured = []
        for scorer in scorers:
            free = [roll_out(self.table, group, scorer) for group in groups]
            forced = [roll_out(self.table, group, scorer, teacher_forced=True) for group in groups]
            measured.append(self._measure(free, forced))
            advance(1)
        return _summary(measured)

    def free_row(
        self,
        scorers: Sequence[Scorer],
        groups: Sequence[CrystalBatch],
        advance: Callable[[int], None],
        mask: Mask = no_mask,
    ) -> EvaluationRow:
        """A row without the figures in the expert's states: of floors, and of masked policies."""
        measured = []
        for scorer in scorers:
            free = [roll_out(self.table, group, scorer, mask=mask) for group in groups]
            measured.append(self._measure(free, None))
            advance(1)
        return _summary(measured)

    def true_row(self, groups: Sequence[CrystalBatch]) -> EvaluationRow:
        """The crystals themselves: what a perfect policy would score."""
        return _summary(
            [
                self._measure(
                    [
                        RolloutResult(
                            group,
                            self.table.true_elements[group.crystals][None],
                            np.zeros((1, 1, 1)),
                            np.ones((1, 1, 1)),
                        )
                        for group in groups
                    ],
                    None,
                )
            ]
        )

    def _measure(
        self, free: Sequence[RolloutResult], forced: Sequence[RolloutResult] | None
    ) -> dict[str, np.ndarray]:
        """Per-crystal means over the sources, (S,), by figure.

        Those by site, whose names end with ``per_site``, are (S, N), NaN where there is no site;
        of the calibration there are the gaps, (S, N, bins).
        """
        parts = [self._measure_group(filled) for filled in free]
        for part, filled in zip(parts, forced or [], strict=False):
            part["teacher_forced"] = (filled.rank == 0).mean((0, 2))
            part["top5"] = (filled.rank < 5).mean((0, 2))
            part["top5_per_site"] = self._padded((filled.rank < 5).mean(0))
            part["gaps_per_site"] = self._padded(calibration_gaps(filled))
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _measure_group(self, filled: RolloutResult) -> dict[str, np.ndarray]:
        true = self.table.true_elements[filled.group.crystals]
        n = int(self.table.n_sites[filled.group.crystals[0]])
        right = (filled.elements == true)[..., :n]
        numbers = self.table.vocabulary.decode(filled.elements)
        novel = [composition(row) not in self.known for row in numbers.reshape(-1, true.shape[1])]
        return {
            "accuracy": right.mean((0, 2)),
            "exact": right.all(2).mean(0),
            "symmetry": symmetry_equivalent_accuracy(
                filled.elements[..., :n],
                true[:, :n],
                [self.symmetries[row] for row in filled.group.crystals.tolist()],
            ).mean(0),
            "swap": swap_accuracy(filled.elements[..., :n], true[:, :n]).mean(0),
            **{f"validity_{rule}": is_valid(numbers, rule).mean(0) for rule in RULES},
            "novel": np.reshape(novel, right.shape[:2]).mean(0),
            "per_site": self._padded(right.mean(0)),
            "first_filling": filled.elements[0],
        }

    def _padded(self, values: np.ndarray) -> np.ndarray:
        """Values of n sites, (S, n, ...), as those of N, (S, N, ...); NaN where is no site."""
        missing = self.table.max_sites - values.shape[1]
        shape = (len(values), missing, *values.shape[2:])
        return np.concatenate([values, np.full(shape, np.nan)], 1)


def _summary(measured: Sequence[dict[str, np.ndarray]]) -> EvaluationRow:
    metrics = {}
    for name in METRICS:
        if name == "unique":
            values = [
                np.array(len(np.unique(m["first_filling"], axis=0)) / len(m["first_filling"]))
                for m in measured
            ]
        elif name == "ece" and "gaps_per_site" in measured[0]:
            # Every crystal counts once, as in the other figures.
            values = [
                calibration_error(np.nanmean(m["gaps_per_site"], 1).mean(0)) for m in measured
            ]
        elif name in measured[0]:
            values = [m[name] for m in measured]
        else:
            continue
        # Several runs differ by their seeds; of one run only the crystals are a sample.
        over = values[0].ravel() if len(values) == 1 else np.array([v.mean() for v in values])
        metrics[name] = MeanWithCI.of(over)
    per_site = {
        key: np.stack([mean_by_site(m[key]) for m in measured])
        for key in ("per_site", "top5_per_site", "gaps_per_site")
        if key in measured[0]
    }
    if "gaps_per_site" in per_site:
        per_site["ece_per_site"] = calibration_error(per_site.pop("gaps_per_site"))
    return EvaluationRow(
        len(measured), metrics, **{key: runs.mean(0).tolist() for key, runs in per_site.items()}
    )
