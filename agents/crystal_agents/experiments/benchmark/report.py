"""The benchmark's table and its curves, drawn from the results alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystal_agents.evaluation.statistics import MeanWithCI, aggregate, interquartile_mean
from crystal_agents.experiments.benchmark.methods import METHODS
from crystal_agents.experiments.benchmark.results import Record
from crystal_agents.experiments.tables import Table, percent
from crystal_gym.utils.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Figures of the table, where the reward tells them, with their headings.
_SHARES = {
    "match": "match",
    "validity_strict": "valid strict",
    "unique": "unique",
    "novel": "novel",
    "labelled": "labelled",
}
_CLONED = "bc"
_INTERVALS = (
    "Greedy fillings from one drawn site; interquartile means over the runs, ± half the 95 % "
    "bootstrap interval. Shares in percent."
)
_AGAINST_BC = (
    "Steps to BC: sites filled until the return on val is that of BC; to scratch: until it is what "
    "the same algorithm ends with that began with random weights. Lowest against BC: the lowest "
    "point of the curve after the first, less BC's return; means over the runs."
)
_NORMALISED = (
    "0 is uniform, 1 is BC. Interquartile means over all runs, ± half the 95 % bootstrap interval, "
    "stratified by reward."
)


def build_table(records: Sequence[Record]) -> list[Table]:
    """A table for each reward, and one over all rewards.

    Args:
        records: at least one, all of one plan.
    """
    tables = [
        _reward_table(reward, [r for r in records if r.reward == reward])
        for reward in dict.fromkeys(record.reward for record in records)
    ]
    over_all = _over_all(records)
    return tables if over_all is None else [*tables, over_all]


def _runs(records: Sequence[Record]) -> dict[str, list[Record]]:
    """By contestant, in the order of ``METHODS``."""
    return {
        name: runs
        for name in METHODS
        if (runs := [record for record in records if record.method == name])
    }


def _figure(runs: Sequence[Record], name: str) -> MeanWithCI | None:
    values = [run.metrics[name] for run in runs if run.metrics.get(name) is not None]
    return aggregate([np.array(values)]) if values else None


def _reward_table(reward: str, records: Sequence[Record]) -> Table:
    runs = _runs(records)
    shares = {
        name: heading
        for name, heading in _SHARES.items()
        if any(name in record.metrics for record in records)
    }
    regret = any("regret" in record.metrics for record in records)
    cloned = _level(runs)
    rows = []
    for name, some in runs.items():
        curves = _curves(some)
        rows.append(
            (
                METHODS[name].title,
                str(len(some)),
                _number(_figure(some, "return")),
                *((_number(_figure(some, "regret")),) if regret else ()),
                *(percent(_figure(some, share)) for share in shares),
                _steps_to(curves, cloned),
                _steps_to(curves, _end(runs.get(METHODS[name].scratch, []))),
                _worst(curves, cloned) if METHODS[name].online else "",
            )
        )
    config = records[0].config
    hardware = "; ".join(sorted({record.hardware for record in records}))
    return Table(
        f"{reward} on {Path(config['collection']).name}: test crystals, {config['steps']:,} steps",
        (
            *("", "runs", "return"),
            *(("regret",) if regret else ()),
            *shares.values(),
            *("steps to BC", "to scratch", "lowest against BC"),
        ),
        rows,
        [
            _INTERVALS,
            _AGAINST_BC,
            f"Hardware: {hardware}.",
        ],
    )


def _over_all(records: Sequence[Record]) -> Table | None:
    """Returns on the scale from uniform (0) to BC (1), all rewards together.

    A reward on which BC is not above uniform has no such scale and is left out.
    """
    rewards = list(dict.fromkeys(record.reward for record in records))
    by_reward = {r: _runs([one for one in records if one.reward == r]) for r in rewards}
    if not all({"uniform", _CLONED} <= set(runs) for runs in by_reward.values()):
        return None
    ends = {
        reward: [interquartile_mean(_returns(runs[one])) for one in ("uniform", _CLONED)]
        for reward, runs in by_reward.items()
    }
    left_out = [reward for reward, (floor, top) in ends.items() if not top > floor]
    rewards = [reward for reward in rewards if reward not in left_out]
    if len(rewards) < 2:
        return None
    rows = []
    for name in METHODS:
        if not all(name in by_reward[reward] for reward in rewards):
            continue
        strata = []
        for reward in rewards:
            floor, top = ends[reward]
            strata.append((_returns(by_reward[reward][name]) - floor) / (top - floor))
        rows.append((METHODS[name].title, _number(aggregate(strata))))
    told = f"Left out, for BC is not above uniform: {', '.join(left_out)}."
    return Table(
        "All rewards together",
        ("", "normalised return"),
        rows,
        [_NORMALISED, f"Rewards: {', '.join(rewards)}.", *([told] if left_out else [])],
    )


def _returns(runs: Sequence[Record]) -> np.ndarray:
    return np.array([run.metrics["return"] for run in runs])


def _number(estimate: MeanWithCI | None) -> str:
    if estimate is None:
        return ""
    half = (estimate.high - estimate.low) / 2
    return f"{estimate.mean:.3f}" + (f" ± {half:.3f}" if half else "")


def _curves(runs: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Steps (P,) that all runs have, and their returns (runs, P)."""
    by_step = [dict(run.curve) for run in runs]
    steps = sorted(set.intersection(*map(set, by_step)))
    return np.array(steps), np.array([[one[step] for step in steps] for one in by_step])


def _level(runs: dict[str, list[Record]]) -> float | None:
    """BC's return on val: where warm starts begin."""
    for name in ("ppo-warm", "ppo-warm-anchored", "dqn-warm"):
        if name in runs:
            return runs[name][0].curve[0][1]
    return None


def _end(runs: Sequence[Record]) -> float | None:
    """The last return on val."""
    return float(interquartile_mean(_curves(runs)[1][:, -1])) if runs else None


def _steps_to(curves: tuple[np.ndarray, np.ndarray], level: float | None) -> str:
    steps, returns = curves
    if level is None or not len(steps):
        return ""
    above = np.flatnonzero(interquartile_mean(returns, axis=0) >= level)
    return f"{steps[above[0]]:,}" if len(above) else "not reached"


def _worst(curves: tuple[np.ndarray, np.ndarray], level: float | None) -> str:
    _, returns = curves
    if level is None or returns.shape[1] < 2:
        return ""
    return f"{returns[:, 1:].min(1).mean() - level:+.3f}"


def save_curves(records: Sequence[Record], path: Path) -> Path:
    """Draw the return on val against the steps of the environment, a panel a reward, as PNG.

    Raises:
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    rewards = list(dict.fromkeys(record.reward for record in records))
    figure = Figure(figsize=(4.6 * len(rewards), 4.4), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(rewards), squeeze=False)[0]
    for axes, reward in zip(panels, rewards, strict=True):
        _draw(axes, reward, _runs([record for record in records if record.reward == reward]))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3, fontsize="small", frameon=False
    )
    with atomic_write(path) as beside:
        figure.savefig(beside, format="png")
    return path


def _draw(axes: "Axes", reward: str, runs: dict[str, list[Record]]) -> None:
    for name, some in runs.items():
        steps, returns = _curves(some)
        if len(steps):
            color = f"C{list(METHODS).index(name) % 10}"
            axes.plot(
                steps, interquartile_mean(returns, axis=0), color=color, label=_title(name, some)
            )
            axes.fill_between(
                steps, returns.min(0), returns.max(0), color=color, alpha=0.15, linewidth=0
            )
    level = _level(runs)
    if level is not None:
        axes.axhline(level, color="black", linestyle=":", label="BC")
    axes.set_title(reward)
    axes.set_xlabel("steps of the environment")
    axes.set_ylabel("return on val")
    axes.grid(visible=True, alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _title(name: str, runs: Sequence[Record]) -> str:
    return f"{METHODS[name].title} ({len(runs)} runs)"
