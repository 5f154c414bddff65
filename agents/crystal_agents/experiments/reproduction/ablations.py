"""What the paper's figures hang on: its network to the letter, and with one thing changed.

The paper leaves open how the sites are numbered, which edges its graph has, and as what the focus
enters; its readout averages coordinates, which turn with the crystal. Each of these is a variant of
Table 1's column of 5 trajectories, trained alike, so that its worth is measured and not guessed.
"""

from collections.abc import Callable, Mapping, Sequence
from math import hypot
from typing import Any

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments.reproduction.experiment import (
    PAPER_EPOCHS,
    Experiment,
    Line,
    Variant,
    over_runs,
)
from crystal_agents.experiments.reproduction.report_notes import (
    INTERVALS,
    PAPER_COLLECTION,
    crystals_of,
    hardware_of,
    minutes,
)
from crystal_agents.experiments.reproduction.results import Record
from crystal_agents.experiments.reproduction.table_1 import COLUMNS
from crystal_agents.experiments.tables import Table, percent

BASE = "base"
_PAPER = COLUMNS["egnn-5"]


def _variant(title: str, **how: Any) -> Variant:
    return Variant(title, _PAPER.recipe, _PAPER.trajectories, **how)


VARIANTS: dict[str, Variant] = {
    # The same runs as Table 1's.
    BASE: _variant("to the letter", runs="egnn-5"),
    "node-order": _variant("sites numbered at random", shuffled=True),
    "periodic-edges": _variant("all periodic edges", settings={"periodic": True}),
    "no-coordinates": _variant("readout without coordinates", settings={"coordinates": False}),
    "focus-as-index": _variant("focus as a bare number", settings={"focus_as_index": True}),
}
ABLATIONS = Experiment("ablations", VARIANTS)
_FIGURES_NOTE = (
    "Accuracy (free-running) and validity are of test; teacher-forced is the accuracy in the "
    "expert's own states of val after the last epoch, without an interval for a single run."
)
_DIFFERENCES_NOTE = (
    '"To the base" is the mean difference over the seeds that both have, each to its own. Of a '
    "single seed its ± takes both runs' crystals for independent samples: that is too wide for the "
    "crystals, and tells nothing of seeds."
)


def _validated(record: Record) -> MeanWithCI:
    """Teacher-forced accuracy of the final network on val, which is told without an interval."""
    accuracy = float("nan") if record.curve is None else record.curve.val[-1]
    return MeanWithCI(accuracy, accuracy, accuracy)


# Heading → the figure of a run.
METRICS: Mapping[str, Callable[[Record], MeanWithCI]] = {
    "accuracy": lambda record: record.metrics["accuracy"],
    "teacher-forced, val": _validated,
    "validity": lambda record: record.metrics["validity_smact14"],
}


def build_table(records: Sequence[Record]) -> Table:
    """Every variant beside its difference to the base of the same epochs and precision.

    Args:
        records: at least one, all on the same crystals.
    """
    lines = ABLATIONS.lines(records)
    bases = {(line.epochs, line.precision): line for line in lines if line.variant == BASE}
    notes = [_FIGURES_NOTE, INTERVALS, _DIFFERENCES_NOTE]
    if records[0].collection == PAPER_COLLECTION:
        notes.append(
            f"The paper: accuracy {_PAPER.accuracy:.2f}, validity {_PAPER.validity:.2f}, means "
            f"over 5 runs of {PAPER_EPOCHS} epochs."
        )
    return Table(
        f"Differences: {crystals_of(records)}",
        (
            *("", "epochs", "runs"),
            *(heading for figure in METRICS for heading in (figure, "to the base")),
            "minutes a run",
        ),
        [_row(line, bases.get((line.epochs, line.precision))) for line in lines],
        [*notes, *hardware_of(records)],
    )


def _row(line: Line, base: Line | None) -> tuple[str, ...]:
    cells = []
    for figure in METRICS.values():
        cells.append(percent(over_runs([figure(record) for record in line.records])))
        apart = None if base is None or base is line else difference(line, base, figure)
        sign = "+" if apart is not None and apart.mean >= 0 else ""
        cells.append(sign + percent(apart))
    return (
        ABLATIONS.title(line),
        f"{line.epochs:,}",
        str(len(line.records)),
        *cells,
        minutes(line),
    )


def difference(line: Line, base: Line, figure: Callable[[Record], MeanWithCI]) -> MeanWithCI | None:
    """A figure's mean difference to the base over the seeds that both have.

    Returns:
        With its interval over these seeds; for a single one, that of two independent samples of
        crystals; ``None`` where they have no seed in common.
    """
    theirs = {record.seed: figure(record) for record in base.records}
    return over_runs([_minus(figure(r), theirs[r.seed]) for r in line.records if r.seed in theirs])


def _minus(a: MeanWithCI, b: MeanWithCI) -> MeanWithCI:
    mean = a.mean - b.mean
    low = mean - hypot(a.mean - a.low, b.high - b.mean)
    return MeanWithCI(mean, low, mean + hypot(a.high - a.mean, b.mean - b.low))
