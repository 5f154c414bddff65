"""Tables and learning curves of a benchmark, built from its records alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystal_agents.evaluation.statistics import MeanWithCI, aggregate, interquartile_mean
from crystal_agents.experiments.benchmark.methods import METHODS
from crystal_agents.experiments.benchmark.results import BenchmarkRecord
from crystal_agents.experiments.provenance import validity_note
from crystal_agents.experiments.tables import Table, number, percent
from crystal_gym.utils.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The returns of these methods are 0 and 1 on the normalized scale.
_ZERO, _CLONED = "uniform", "bc"
# Metrics that are fractions, with their headings. A table has the columns that its reward defines.
_FRACTIONS = {
    "match": "match",
    "validity_strict": "valid strict",
    "unique": "unique",
    "novel": "novel",
    "labeled": "labeled",
}
_METRICS_NOTE = (
    "Greedy fillings from one start site: interquartile means over the runs, ± half the width of "
    "the 95 % bootstrap interval. Fractions are given in percent."
)
_CURVE_NOTE = (
    "Oracle calls: distinct crystals whose reward the method received for learning, mean of the "
    "runs. "
    "Steps to BC: environment steps until the return on val reaches that of BC. Steps to scratch: "
    "environment steps until it reaches the final return of the same algorithm trained from random "
    "weights. Lowest against BC: lowest point of the learning curve after the first one, minus "
    "BC's return, averaged over the runs."
)
_NORMALIZED_NOTE = (
    "0 is uniform, 1 is BC. Interquartile means over all runs, ± half the width of the 95 % "
    "bootstrap interval, stratified by reward."
)

Runs = dict[str, list[BenchmarkRecord]]


def build_tables(records: Sequence[BenchmarkRecord]) -> list[Table]:
    """Build a table for each reward, and a table of normalized returns over all rewards.

    The last table is left out if fewer than two rewards have runs of both uniform and BC in which
    BC has the higher return.

    Args:
        records: At least one record, all of the same config.
    """
    tables = [
        _reward_table(reward, [record for record in records if record.reward == reward])
        for reward in dict.fromkeys(record.reward for record in records)
    ]
    normalized = _normalized_table(records)
    return tables if normalized is None else [*tables, normalized]


def _by_method(records: Sequence[BenchmarkRecord]) -> Runs:
    """Group records by method, in the order of ``METHODS``."""
    groups = {name: [r for r in records if r.method == name] for name in METHODS}
    return {name: runs for name, runs in groups.items() if runs}


def _mean(runs: Sequence[BenchmarkRecord], metric: str) -> MeanWithCI | None:
    values = [run.metrics[metric] for run in runs if run.metrics.get(metric) is not None]
    return aggregate([np.array(values)]) if values else None


def _reward_table(reward: str, records: Sequence[BenchmarkRecord]) -> Table:
    by_method = _by_method(records)
    fractions = {
        metric: heading
        for metric, heading in _FRACTIONS.items()
        if any(metric in record.metrics for record in records)
    }
    with_regret = any("regret" in record.metrics for record in records)
    cloned = _cloned_return(by_method)
    rows = []
    for name, runs in by_method.items():
        method = METHODS[name]
        curves = _curves(runs)
        rows.append(
            (
                method.title,
                str(len(runs)),
                number(_mean(runs, "return")),
                *((number(_mean(runs, "regret")),) if with_regret else ()),
                *(percent(_mean(runs, metric)) for metric in fractions),
                _oracle_calls(runs),
                _steps_to(curves, cloned),
                _steps_to(curves, _final_return(by_method.get(method.scratch, []))),
                _lowest(curves, cloned) if method.online else "",
            )
        )
    steps = records[0].config["steps"]
    hardware = "; ".join(sorted({record.hardware for record in records}))
    return Table(
        f"{reward} on {Path(records[0].collection).name}: test crystals, {steps:,} steps",
        (
            *("", "runs", "return"),
            *(("regret",) if with_regret else ()),
            *fractions.values(),
            *("oracle calls", "steps to BC", "steps to scratch", "lowest against BC"),
        ),
        rows,
        [
            _METRICS_NOTE,
            *_missing_notes(records, ("return", "regret", *fractions)),
            *_validity_notes(records),
            _CURVE_NOTE,
            f"Hardware: {hardware}.",
        ],
    )


def _missing_notes(records: Sequence[BenchmarkRecord], metrics: Sequence[str]) -> list[str]:
    """Return a note with the metrics that are undefined on some crystals, if there are any."""
    counts = {
        metric: max(int(record.metrics.get(f"{metric}/n_missing", 0)) for record in records)
        for metric in metrics
    }
    missing = [f"{metric} (up to {count:,})" for metric, count in counts.items() if count]
    if not missing:
        return []
    return [f"Crystals per run on which a metric is undefined and left out: {', '.join(missing)}."]


def _validity_notes(records: Sequence[BenchmarkRecord]) -> list[str]:
    versions = [record.versions for record in records if "validity_strict" in record.metrics]
    return [validity_note("strict", versions)] if versions else []


def _normalized_table(records: Sequence[BenchmarkRecord]) -> Table | None:
    by_reward = {
        reward: _by_method([record for record in records if record.reward == reward])
        for reward in dict.fromkeys(record.reward for record in records)
    }
    if not all({_ZERO, _CLONED} <= set(by_method) for by_method in by_reward.values()):
        return None
    scales = {
        reward: tuple(interquartile_mean(_returns(by_method[name])) for name in (_ZERO, _CLONED))
        for reward, by_method in by_reward.items()
    }
    rewards = [reward for reward, (uniform, cloned) in scales.items() if cloned > uniform]
    if len(rewards) < 2:
        return None
    rows = []
    for name, method in METHODS.items():
        if all(name in by_reward[reward] for reward in rewards):
            strata = []
            for reward in rewards:
                uniform, cloned = scales[reward]
                returns = _returns(by_reward[reward][name])
                strata.append((returns - uniform) / (cloned - uniform))
            rows.append((method.title, number(aggregate(strata))))
    notes = [_NORMALIZED_NOTE, f"Rewards: {', '.join(rewards)}."]
    left_out = [reward for reward in scales if reward not in rewards]
    if left_out:
        notes.append(f"Left out because BC is not above uniform: {', '.join(left_out)}.")
    return Table("All rewards", ("", "normalized return"), rows, notes)


def _returns(runs: Sequence[BenchmarkRecord]) -> np.ndarray:
    return np.array([run.metrics["return"] for run in runs])


def _curves(runs: Sequence[BenchmarkRecord]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps (P,) that all learning curves have, and the returns (runs, P)."""
    returns_by_step = [dict(run.curve) for run in runs]
    steps = sorted(set.intersection(*map(set, returns_by_step)))
    returns = [[by_step[step] for step in steps] for by_step in returns_by_step]
    return np.array(steps), np.array(returns)


def _cloned_return(by_method: Runs) -> float | None:
    """Return BC's return on val, which is the first point of every warm start's curve."""
    for name in ("ppo-warm", "ppo-warm-anchored", "dqn-warm"):
        if name in by_method:
            return by_method[name][0].curve[0][1]
    return None


def _final_return(runs: Sequence[BenchmarkRecord]) -> float | None:
    """Return the interquartile mean of the last returns on val, or ``None`` without runs."""
    return float(interquartile_mean(_curves(runs)[1][:, -1])) if runs else None


def _steps_to(curves: tuple[np.ndarray, np.ndarray], threshold: float | None) -> str:
    steps, returns = curves
    if threshold is None or not len(steps):
        return ""
    reached = np.flatnonzero(interquartile_mean(returns, axis=0) >= threshold)
    return f"{steps[reached[0]]:,}" if len(reached) else "not reached"


def _oracle_calls(runs: Sequence[BenchmarkRecord]) -> str:
    """Return the mean number of oracle calls for learning; empty if a run has no record of it."""
    totals = [run.oracle_calls[-1] for run in runs if run.oracle_calls]
    return f"{np.mean(totals):,.0f}" if len(totals) == len(runs) else ""


def _lowest(curves: tuple[np.ndarray, np.ndarray], cloned: float | None) -> str:
    _, returns = curves
    if cloned is None or returns.shape[1] < 2:
        return ""
    return f"{returns[:, 1:].min(1).mean() - cloned:+.3f}"


def save_curves(records: Sequence[BenchmarkRecord], path: Path) -> Path:
    """Plot the return on val, one column of panels per reward, as a PNG file.

    The horizontal axes are the environment steps in the first row, and the oracle calls in the
    second. Lines are interquartile means, shaded areas range from the lowest to the highest run.

    Raises:
        StorageError: If the file cannot be written.
    """
    from matplotlib.figure import Figure

    rewards = list(dict.fromkeys(record.reward for record in records))
    figure = Figure(figsize=(4.6 * len(rewards), 8), dpi=150, layout="constrained")
    panels = figure.subplots(2, len(rewards), squeeze=False)
    for column, reward in zip(panels.T, rewards, strict=True):
        by_method = _by_method([record for record in records if record.reward == reward])
        column[0].set_title(reward)
        for axes, label in zip(column, ("environment steps", "oracle calls"), strict=True):
            _plot_reward(axes, by_method, against_calls=label == "oracle calls")
            axes.set_xlabel(label)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3, fontsize="small", frameon=False
    )
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def _plot_reward(axes: "Axes", by_method: Runs, *, against_calls: bool) -> None:
    for name, runs in by_method.items():
        x, returns = _curves(runs)
        if against_calls and len(x):
            x = _calls(runs, x)
        if len(x):
            # A method has the same color in every panel.
            color = f"C{list(METHODS).index(name) % 10}"
            label = f"{METHODS[name].title} ({len(runs)} runs)"
            axes.plot(x, interquartile_mean(returns, axis=0), color=color, label=label)
            axes.fill_between(
                x, returns.min(0), returns.max(0), color=color, alpha=0.15, linewidth=0
            )
    cloned = _cloned_return(by_method)
    if cloned is not None:
        axes.axhline(cloned, color="black", linestyle=":", label="BC")
    axes.set_ylabel("return on val")
    axes.grid(visible=True, alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _calls(runs: Sequence[BenchmarkRecord], steps: np.ndarray) -> np.ndarray:
    """Return the mean number of oracle calls of the runs at these steps; empty if not recorded."""
    if not all(run.oracle_calls for run in runs):
        return np.empty(0)
    calls = []
    for run in runs:
        by_step = dict(zip((step for step, _ in run.curve), run.oracle_calls, strict=True))
        calls.append([by_step[step] for step in steps.tolist()])
    return np.mean(calls, axis=0)
