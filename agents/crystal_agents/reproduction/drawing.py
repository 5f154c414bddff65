"""Table 1 and Figure 2, drawn from the results file alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystal_agents.evaluation import Estimate
from crystal_agents.reproduction.results import Curve, Record
from crystal_agents.reproduction.table_1 import COLUMNS, PAPER_EPOCHS, Line, lines_of, suffix
from crystal_gym.files import written_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE_FILE = "table-1.md"
# Figure → its columns.
FIGURES = {"2a": ("egnn-1", "egnn-3", "egnn-5"), "2b": ("egnn-5", "gcn-5")}
# The paper's values are of these crystals.
_PAPER_COLLECTION = "perov-5"
_INTERVALS = (
    "± is half the 95 % bootstrap interval: over the runs where there are several, over the "
    "crystals where there is one."
)
_RANDOM = "The random agent chooses alike from every source and fills each crystal from one."
_MISPRINT = " The paper prints 17.8 for it; one of 56 elements is 1.79 %, so 1.78 is meant."
# So few points are marked, lest a single one be invisible.
_FEW_POINTS = 10


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
        title: one line.
        headings: of the columns; the first is of text, the others are of numbers.
        rows: cells.
        notes: sentences to be read beside it.
    """

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str]

    def markdown(self) -> str:
        """As Markdown."""
        rules = ("---", *["---:"] * (len(self.headings) - 1))
        rows = ["| " + " | ".join(row) + " |" for row in (self.headings, rules, *self.rows)]
        return "\n".join([self.title, "", *rows, "", *(f"- {note}" for note in self.notes), ""])


def table_of(records: Sequence[Record]) -> Table:
    """Our figures with the paper's beside them; runs of different settings have lines of their own.

    Args:
        records: at least one, all on the same crystals.
    """
    first = records[0]
    with_paper = first.collection == _PAPER_COLLECTION
    paper = ("paper",) if with_paper else ()
    notes = [_INTERVALS]
    if with_paper:
        notes.append(f"The paper's values are means over 5 runs of {PAPER_EPOCHS} epochs.")
    if any(record.column == "random" for record in records):
        notes.append(_RANDOM + (_MISPRINT if with_paper else ""))
    hardware = sorted({record.hardware for record in records if record.epochs})
    if hardware:
        notes.append(f"Hardware: {'; '.join(hardware)}.")
    return Table(
        f"Table 1: {Path(first.collection).name}, {first.n_crystals:,} test crystals, "
        "mean over up to five sources, %",
        (
            *("", "epochs", "runs"),
            *("accuracy", *paper, "validity", *paper),
            *("teacher-forced", "± over", "minutes a run"),
        ),
        [_row(line, with_paper=with_paper) for line in lines_of(records)],
        notes,
    )


def _row(line: Line, *, with_paper: bool) -> tuple[str, ...]:
    column = COLUMNS[line.column]
    precision = line.precision or "32-true"
    minutes = np.mean([record.seconds for record in line.records]) / 60
    return (
        column.title + ("" if precision == "32-true" else f", {precision}"),
        f"{line.epochs:,}" if line.epochs else "",
        str(len(line.records)),
        _percent(line.figure("accuracy")),
        *((f"{column.accuracy:.2f}",) if with_paper else ()),
        _percent(line.figure("validity_smact14")),
        *((f"{column.validity:.2f}",) if with_paper else ()),
        _percent(line.figure("teacher_forced")),
        "runs" if len(line.records) > 1 else "crystals",
        f"{minutes:.1f}" if line.epochs else "",
    )


def _percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return f"{100 * estimate.mean:.2f} ± {50 * (estimate.high - estimate.low):.2f}"


def save_table(table: Table, folder: Path) -> Path:
    """Write the table as Markdown.

    Raises:
        StorageError: the file cannot be written.
    """
    path = folder / TABLE_FILE
    with written_beside(path) as beside:
        beside.write_text(table.markdown())
    return path


def save_figures(records: Sequence[Record], folder: Path) -> list[Path]:
    """Draw Figures 2a and 2b as PNG, once for every number of epochs and precision.

    Those of the paper's settings are ``figure-2a.png`` and ``figure-2b.png``; the names of others
    tell the difference. A figure without any of its columns is left out.

    Raises:
        StorageError: a file cannot be written.
    """
    from matplotlib.figure import Figure

    settings: dict[tuple[int, str], dict[str, Line]] = {}
    for line in lines_of(records):
        if line.precision is not None:
            settings.setdefault((line.epochs, line.precision), {})[line.column] = line
    paths = []
    for setting, lines in settings.items():
        for name, columns in FIGURES.items():
            drawn = [lines[column] for column in columns if column in lines]
            if not drawn:
                continue
            # A Figure without pyplot has Agg's canvas, whatever the display.
            figure = Figure(figsize=(6.4, 4.4), dpi=150, layout="constrained")
            _draw(figure.add_subplot(), drawn)
            path = folder / f"figure-{name}{suffix(*setting)}.png"
            with written_beside(path) as beside:
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
            # A column has the same colour in every figure.
            colour = f"C{list(COLUMNS).index(line.column)}"
            axes.plot(
                epochs,
                accuracies.mean(0),
                style,
                color=colour,
                label=f"{COLUMNS[line.column].title}, {title} ({runs})",
                marker="o" if len(epochs) <= _FEW_POINTS else "",
                markerfacecolor="white" if part == "train" else colour,
            )
            if len(curves) > 1:
                axes.fill_between(
                    epochs, accuracies.min(0), accuracies.max(0), color=colour, alpha=0.2, lw=0
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
