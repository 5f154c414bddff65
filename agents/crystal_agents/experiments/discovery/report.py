"""Tables of the discovery task: evaluations until 1, half and all targets are found."""

from collections.abc import Sequence

import numpy as np

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments.discovery.methods import METHODS
from crystal_agents.experiments.discovery.results import DiscoveryRecord
from crystal_agents.experiments.discovery.task import random_expectation
from crystal_agents.experiments.tables import Table

# Factors of the best genetic algorithms of Jain et al., J. Mater. Sci. 48, 6519 (2013).
_PUBLISHED = (
    "Published (Jain et al. 2013, the best of 2,500 genetic algorithms on this grid): almost 10 "
    "times fewer evaluations than random search for half of the water splitters, almost 6 times "
    "fewer for all; 12 to 17 times with chemical rules."
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
    rows = []
    for name, method in METHODS.items():
        runs = [record for record in records if record.method == name]
        if not runs:
            continue
        means = {k: _evaluations(runs, k) for k in milestones}
        cells = [
            _reached(runs, k) if mean is None else _with_interval(mean) for k, mean in means.items()
        ]
        factors = [
            "" if mean is None else f"{expected[k] / mean.mean:.1f}"
            for k, mean in list(means.items())[1:]
        ]
        rows.append((method.title, *cells, *factors, str(len(runs))))
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
            _PUBLISHED,
        ],
    )


def _evaluations(runs: Sequence[DiscoveryRecord], k: int) -> MeanWithCI | None:
    """Return the mean number of evaluations until k targets, ``None`` if a search found fewer."""
    if any(len(run.found_at) < k for run in runs):
        return None
    return MeanWithCI.of(np.array([run.found_at[k - 1] for run in runs], float))


def _reached(runs: Sequence[DiscoveryRecord], k: int) -> str:
    return f"found by {sum(len(run.found_at) >= k for run in runs)} of {len(runs)}"


def _with_interval(mean: MeanWithCI) -> str:
    return f"{mean.mean:,.0f} [{mean.low:,.0f}, {mean.high:,.0f}]"
