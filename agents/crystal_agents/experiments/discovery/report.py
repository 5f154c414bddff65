"""Tables of the discovery task: evaluations until 1, half and all targets are found."""

from collections.abc import Sequence

import numpy as np

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments.discovery.methods import METHODS, Method
from crystal_agents.experiments.discovery.results import DiscoveryRecord
from crystal_agents.experiments.discovery.task import random_expectation
from crystal_agents.experiments.tables import Table

# Factors of the best genetic algorithms of Jain et al., J. Mater. Sci. 48, 6519 (2013).
_PUBLISHED = (
    "Published (Jain et al. 2013, the best of 2,500 genetic algorithms on this grid): almost 10 "
    "times fewer evaluations than random search for half of the water splitters, almost 6 times "
    "fewer for all; 12 to 17 times with chemical rules."
)
_CENSORED = (
    "≥: a search that ended with fewer targets counts with all its evaluations, so the mean is a "
    "lower bound; in parentheses the seeds that found the targets."
)


def build_tables(records: Sequence[DiscoveryRecord]) -> list[Table]:
    """Return one table for each task, with the methods in the order of ``METHODS``.

    Args:
        records: The searches.
    """
    tasks = list(dict.fromkeys(record.task for record in records))
    return [_build_table(task, [r for r in records if r.task == task]) for task in tasks]


def _build_table(task: str, records: Sequence[DiscoveryRecord]) -> Table:
    n_targets, budget = records[0].n_targets, records[0].budget
    milestones = list(dict.fromkeys((1, max(n_targets // 2, 1), n_targets)))
    expected = {k: random_expectation(records[0].n_crystals, n_targets, k) for k in milestones}
    reference = ", ".join(f"{mean:,.0f} for {k}" for k, mean in expected.items())
    rows, outside = [], []
    for name, method in METHODS.items():
        runs = [record for record in records if record.method == name]
        if not runs:
            continue
        cells = [_evaluations(runs, k) for k in milestones]
        factors = [_factor(runs, k, expected[k]) for k in milestones[1:]]
        rows.append((method.title, *cells, *factors, str(len(runs))))
        outside += _outside_grid(method, runs)
    return Table(
        f"{task}: evaluations until {', '.join(map(str, milestones))} of {n_targets} targets",
        (
            "method",
            *(f"{k} found" for k in milestones),
            *(f"factor, {k}" for k in milestones[1:]),
            "seeds",
        ),
        rows,
        [
            f"Mean over seeds with its 95 % bootstrap interval; budget {budget:,} evaluations.",
            f"Factors: against random search without a rule, k (N + 1) / (T + 1) = {reference}.",
            *([_CENSORED] if any("≥" in cell for row in rows for cell in row) else []),
            *outside,
            _PUBLISHED,
        ],
    )


def _bounds(runs: Sequence[DiscoveryRecord], k: int) -> tuple[np.ndarray, int]:
    """Return the evaluations until k targets, or in total, (n,), and the number that found k."""
    reached = [len(run.found_at) >= k for run in runs]
    counts = [
        run.found_at[k - 1] if found else run.evaluations
        for run, found in zip(runs, reached, strict=True)
    ]
    return np.array(counts, float), sum(reached)


def _evaluations(runs: Sequence[DiscoveryRecord], k: int) -> str:
    """Return the mean until k targets with its interval, or a lower bound and the runs with k."""
    counts, n_reached = _bounds(runs, k)
    if n_reached < len(runs):
        return f"≥ {counts.mean():,.0f} ({n_reached} of {len(runs)})"
    estimate = MeanWithCI.of(counts)
    return f"{estimate.mean:,.0f} [{estimate.low:,.0f}, {estimate.high:,.0f}]"


def _factor(runs: Sequence[DiscoveryRecord], k: int, expected: float) -> str:
    """Return the factor against random search, empty unless all searches found k targets."""
    counts, n_reached = _bounds(runs, k)
    return f"{expected / counts.mean():.1f}" if n_reached == len(runs) else ""


def _outside_grid(method: Method, runs: Sequence[DiscoveryRecord]) -> list[str]:
    """Return a sentence on the episodes of a method that learns in the environment."""
    episodes = sum(run.counts.get("episodes", 0) for run in runs)
    if not episodes:
        return []
    outside = sum(run.counts["outside_grid"] for run in runs)
    evaluations = sum(run.evaluations for run in runs)
    sentence = (
        f"{method.title}: {episodes / len(runs):,.0f} episodes per seed, of which "
        f"{100 * outside / episodes:.1f} % ended outside the grid and "
        f"{100 * evaluations / episodes:.1f} % were new crystals."
    )
    return [sentence]
