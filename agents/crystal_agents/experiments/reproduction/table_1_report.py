"""Report of Table 1 and Figure 2, built from the results file alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystal_agents.experiments.provenance import validity_note
from crystal_agents.experiments.reproduction.experiment import PAPER_EPOCHS, RunGroup, suffix
from crystal_agents.experiments.reproduction.report_notes import (
    INTERVALS_NOTE,
    PAPER_COLLECTION,
    describe_crystals,
    hardware_notes,
    mean_minutes,
)
from crystal_agents.experiments.reproduction.results import AccuracyCurve, ReproductionRecord
from crystal_agents.experiments.reproduction.table_1 import TABLE_1, VARIANTS
from crystal_agents.experiments.tables import Table, percent
from crystal_gym.utils.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Variants of each panel of the paper's Figure 2.
PLOTS = {"2a": ("egnn-1", "egnn-3", "egnn-5"), "2b": ("egnn-5", "gcn-5")}
_RANDOM_NOTE = (
    "The random agent fills each crystal from one start site: its choices do not depend on it."
)
_MISPRINT_NOTE = (
    "The paper prints an accuracy of 17.8, a misprint of 1.78: one of 56 elements is 1.79 %."
)
# Curves with at most this many points have markers; a single point would be invisible without.
_MAX_MARKERS = 10


def build_table(records: Sequence[ReproductionRecord]) -> Table:
    """Build Table 1 with the paper's values; runs with different settings have separate rows.

    Args:
        records: At least one record, all on the same crystals.
    """
    with_paper = records[0].collection == PAPER_COLLECTION
    paper = ("paper",) if with_paper else ()
    validity = validity_note("smact14", [record.versions for record in records])
    notes = [INTERVALS_NOTE, validity]
    if with_paper:
        notes.append(f"The paper's values are means over 5 runs of {PAPER_EPOCHS} epochs.")
    if any(record.variant == "random" for record in records):
        notes.append(f"{_RANDOM_NOTE} {_MISPRINT_NOTE}" if with_paper else _RANDOM_NOTE)
    return Table(
        f"Table 1: {describe_crystals(records)}",
        (
            *("", "epochs", "runs"),
            *("accuracy", *paper, "validity", *paper),
            *("teacher-forced", "± over", "minutes per run"),
        ),
        [_row(group, with_paper=with_paper) for group in TABLE_1.groups(records)],
        [*notes, *hardware_notes(records)],
    )


def _row(group: RunGroup, *, with_paper: bool) -> tuple[str, ...]:
    variant = VARIANTS[group.variant]
    return (
        TABLE_1.title(group),
        f"{group.epochs:,}" if group.epochs else "",
        str(len(group.records)),
        percent(group.mean("accuracy")),
        *((f"{variant.accuracy:.2f}",) if with_paper else ()),
        percent(group.mean("validity_smact14")),
        *((f"{variant.validity:.2f}",) if with_paper else ()),
        percent(group.mean("teacher_forced")),
        "runs" if len(group.records) > 1 else "crystals",
        mean_minutes(group),
    )


def save_plots(records: Sequence[ReproductionRecord], folder: Path) -> list[Path]:
    """Plot Figures 2a and 2b as PNG files for each number of epochs and precision.

    With the paper's settings the files are ``figure-2a.png`` and ``figure-2b.png``; other settings
    are part of the file name. A plot without any of its variants is left out.

    Returns:
        The paths of the files.

    Raises:
        StorageError: If a file cannot be written.
    """
    from matplotlib.figure import Figure

    by_settings: dict[tuple[int, str], dict[str, RunGroup]] = {}
    for group in TABLE_1.groups(records):
        if group.precision is not None:
            groups = by_settings.setdefault((group.epochs, group.precision), {})
            groups[group.variant] = group
    paths = []
    for settings, groups in by_settings.items():
        for name, variants in PLOTS.items():
            plotted = [groups[variant] for variant in variants if variant in groups]
            if not plotted:
                continue
            # A Figure without pyplot uses the Agg canvas and needs no display.
            figure = Figure(figsize=(6.4, 4.4), dpi=150, layout="constrained")
            _plot_accuracies(figure.add_subplot(), plotted)
            path = folder / f"figure-{name}{suffix(*settings)}.png"
            with atomic_write(path) as temporary:
                figure.savefig(temporary, format="png")
            paths.append(path)
    return paths


def _plot_accuracies(axes: "Axes", groups: Sequence[RunGroup]) -> None:
    from matplotlib.ticker import MaxNLocator

    # One line style after the other, so that each has its own column in the legend.
    for part, title, style in (("train", "train", "--"), ("val", "validation", "-")):
        for group in groups:
            _plot_group(axes, group, part, title, style)
    axes.set_xlabel("epoch")
    axes.set_ylabel("teacher-forced accuracy, %")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
    axes.grid(visible=True, alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)


def _plot_group(axes: "Axes", group: RunGroup, part: str, title: str, style: str) -> None:
    curves = [record.curve for record in group.records if record.curve is not None]
    epochs, accuracies = _common_epochs(curves, part)
    runs = f"{len(curves)} runs" if len(curves) > 1 else f"seed {group.records[0].seed}"
    # A variant has the same color in every plot.
    color = f"C{list(VARIANTS).index(group.variant)}"
    axes.plot(
        epochs,
        accuracies.mean(0),
        style,
        color=color,
        label=f"{VARIANTS[group.variant].title}, {title} ({runs})",
        marker="o" if len(epochs) <= _MAX_MARKERS else "",
        markerfacecolor="white" if part == "train" else color,
    )
    if len(curves) > 1:
        axes.fill_between(
            epochs, accuracies.min(0), accuracies.max(0), color=color, alpha=0.2, lw=0
        )


def _common_epochs(curves: Sequence[AccuracyCurve], part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the epochs (P,) that all curves have, and the accuracies in percent (curves, P)."""
    by_epoch = [dict(zip(curve.epoch, getattr(curve, part), strict=True)) for curve in curves]
    epochs = sorted(set.intersection(*map(set, by_epoch)))
    accuracies = [[accuracy[epoch] for epoch in epochs] for accuracy in by_epoch]
    return np.array(epochs), 100 * np.array(accuracies)
