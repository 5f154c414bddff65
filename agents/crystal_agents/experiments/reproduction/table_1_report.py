"""Table 1 and Figure 2, drawn from the results file alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystal_agents.experiments.reproduction.experiment import PAPER_EPOCHS, Line, suffix
from crystal_agents.experiments.reproduction.report_notes import (
    INTERVALS,
    PAPER_COLLECTION,
    crystals_of,
    hardware_of,
    minutes,
)
from crystal_agents.experiments.reproduction.results import Curve, Record
from crystal_agents.experiments.reproduction.table_1 import COLUMNS, TABLE_1
from crystal_agents.experiments.tables import Table, percent
from crystal_gym.utils.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Figure → its columns.
METRICS = {"2a": ("egnn-1", "egnn-3", "egnn-5"), "2b": ("egnn-5", "gcn-5")}
_RANDOM = "The random agent chooses alike from every source and fills each crystal from one."
_MISPRINT = " The paper prints 17.8 for it; one of 56 elements is 1.79 %, so 1.78 is meant."
# So few points are marked, lest a single one be invisible.
_FEW_POINTS = 10


def build_table(records: Sequence[Record]) -> Table:
    """Our figures with the paper's beside them; runs of different settings have lines of their own.

    Args:
        records: at least one, all on the same crystals.
    """
    with_paper = records[0].collection == PAPER_COLLECTION
    paper = ("paper",) if with_paper else ()
    notes = [INTERVALS]
    if with_paper:
        notes.append(f"The paper's values are means over 5 runs of {PAPER_EPOCHS} epochs.")
    if any(record.variant == "random" for record in records):
        notes.append(_RANDOM + (_MISPRINT if with_paper else ""))
    return Table(
        f"Table 1: {crystals_of(records)}",
        (
            *("", "epochs", "runs"),
            *("accuracy", *paper, "validity", *paper),
            *("teacher-forced", "± over", "minutes a run"),
        ),
        [_row(line, with_paper=with_paper) for line in TABLE_1.lines(records)],
        [*notes, *hardware_of(records)],
    )


def _row(line: Line, *, with_paper: bool) -> tuple[str, ...]:
    variant = COLUMNS[line.variant]
    return (
        TABLE_1.title(line),
        f"{line.epochs:,}" if line.epochs else "",
        str(len(line.records)),
        percent(line.figure("accuracy")),
        *((f"{variant.accuracy:.2f}",) if with_paper else ()),
        percent(line.figure("validity_smact14")),
        *((f"{variant.validity:.2f}",) if with_paper else ()),
        percent(line.figure("teacher_forced")),
        "runs" if len(line.records) > 1 else "crystals",
        minutes(line),
    )


def save_figures(records: Sequence[Record], folder: Path) -> list[Path]:
    """Draw Figures 2a and 2b as PNG, once for every number of epochs and precision.

    Those of the paper's settings are ``figure-2a.png`` and ``figure-2b.png``; the names of others
    tell the difference. A figure without any of its columns is left out.

    Raises:
        StorageError: a file cannot be written.
    """
    from matplotlib.figure import Figure

    settings: dict[tuple[int, str], dict[str, Line]] = {}
    for line in TABLE_1.lines(records):
        if line.precision is not None:
            settings.setdefault((line.epochs, line.precision), {})[line.variant] = line
    paths = []
    for setting, lines in settings.items():
        for name, variants in METRICS.items():
            drawn = [lines[variant] for variant in variants if variant in lines]
            if not drawn:
                continue
            # A Figure without pyplot has Agg's canvas, whatever the display.
            figure = Figure(figsize=(6.4, 4.4), dpi=150, layout="constrained")
            _draw(figure.add_subplot(), drawn)
            path = folder / f"figure-{name}{suffix(*setting)}.png"
            with atomic_write(path) as beside:
                figure.savefig(beside, format="png")
            paths.append(path)
    return paths


def _draw(axes: "Axes", lines: Sequence[Line]) -> None:
    from matplotlib.ticker import MaxNLocator

    # All of one style after another: a column of the legend each.
    for part, title, style in (("train", "train", "--"), ("val", "validation", "-")):
        for line in lines:
            curves = [record.curve for record in line.records if record.curve is not None]
            epochs, accuracies = _together(curves, part)
            runs = f"{len(curves)} runs" if len(curves) > 1 else f"seed {line.records[0].seed}"
            # A column has the same color in every figure.
            color = f"C{list(COLUMNS).index(line.variant)}"
            axes.plot(
                epochs,
                accuracies.mean(0),
                style,
                color=color,
                label=f"{COLUMNS[line.variant].title}, {title} ({runs})",
                marker="o" if len(epochs) <= _FEW_POINTS else "",
                markerfacecolor="white" if part == "train" else color,
            )
            if len(curves) > 1:
                axes.fill_between(
                    epochs, accuracies.min(0), accuracies.max(0), color=color, alpha=0.2, lw=0
                )
    axes.set_xlabel("epoch")
    axes.set_ylabel("teacher-forced accuracy, %")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
    axes.grid(visible=True, alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)


def _together(curves: Sequence[Curve], part: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs (P,) that all curves have, and their accuracies in percent (curves, P)."""
    by_epoch = [dict(zip(curve.epoch, getattr(curve, part), strict=True)) for curve in curves]
    epochs = sorted(set.intersection(*map(set, by_epoch)))
    return np.array(epochs), 100 * np.array([[one[e] for e in epochs] for one in by_epoch])
