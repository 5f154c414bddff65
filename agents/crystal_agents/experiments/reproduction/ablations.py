"""Ablations: the paper's network as published, and variants with one change each.

The paper does not specify the order of the sites, the edges of its graph, or the encoding of the
site in focus. Its readout averages coordinates, which depend on the orientation of the crystal.
Each of these choices is a variant of Table 1's EGNN with 5 trajectories, trained in the same way.
"""

from collections.abc import Callable, Mapping, Sequence
from math import hypot
from typing import Any

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments.provenance import validity_note
from crystal_agents.experiments.reproduction.experiment import (
    PAPER_EPOCHS,
    Experiment,
    RunGroup,
    Variant,
    mean_over_runs,
)
from crystal_agents.experiments.reproduction.report_notes import (
    INTERVALS_NOTE,
    PAPER_COLLECTION,
    describe_crystals,
    hardware_notes,
    mean_minutes,
)
from crystal_agents.experiments.reproduction.results import ReproductionRecord
from crystal_agents.experiments.reproduction.table_1 import VARIANTS as TABLE_1_VARIANTS
from crystal_agents.experiments.tables import Table, percent

BASE = "base"
_PAPER = TABLE_1_VARIANTS["egnn-5"]


def _variant(title: str, **changes: Any) -> Variant:
    return Variant(title, _PAPER.recipe, _PAPER.trajectories, **changes)


VARIANTS: dict[str, Variant] = {
    # Shares its runs with Table 1.
    BASE: _variant("the paper's network (base)", runs="egnn-5"),
    "node-order": _variant("sites numbered at random", altered="shuffled"),
    "periodic-edges": _variant("all periodic edges", settings={"periodic": True}),
    "no-coordinates": _variant("readout without coordinates", settings={"coordinates": False}),
    "focus-as-index": _variant("focus as one number", settings={"focus_as_index": True}),
}
ABLATIONS = Experiment("ablations", VARIANTS)
_METRICS_NOTE = (
    "Accuracy (free-running) and validity are measured on test, teacher-forced accuracy in the "
    "expert's states on val after the last epoch. The latter has no interval for a single run."
)
_DIFFERENCE_NOTE = (
    '"Change" is the mean difference to the base over the seeds that both have, paired by seed. '
    "For a single seed, ± treats the crystals of the two runs as independent samples: it "
    "overestimates the uncertainty over crystals and ignores that over seeds."
)

Metric = Callable[[ReproductionRecord], MeanWithCI]


def _final_val_accuracy(record: ReproductionRecord) -> MeanWithCI:
    accuracy = float("nan") if record.curve is None else record.curve.val[-1]
    return MeanWithCI(accuracy, accuracy, accuracy)


# Metrics of a run by the heading of their column.
METRICS: Mapping[str, Metric] = {
    "accuracy": lambda record: record.metrics["accuracy"],
    "teacher-forced, val": _final_val_accuracy,
    "validity": lambda record: record.metrics["validity_smact14"],
}


def build_table(records: Sequence[ReproductionRecord]) -> Table:
    """Build the table of all variants and their differences to the base.

    A variant is compared with the base of the same epochs and precision.

    Args:
        records: At least one record, all on the same crystals.
    """
    groups = ABLATIONS.groups(records)
    bases = {(group.epochs, group.precision): group for group in groups if group.variant == BASE}
    validity = validity_note("smact14", [record.versions for record in records])
    notes = [_METRICS_NOTE, validity, INTERVALS_NOTE, _DIFFERENCE_NOTE]
    if records[0].collection == PAPER_COLLECTION:
        notes.append(
            f"The paper reports an accuracy of {_PAPER.accuracy:.2f} and a validity of "
            f"{_PAPER.validity:.2f}, means over 5 runs of {PAPER_EPOCHS} epochs."
        )
    return Table(
        f"Ablations: {describe_crystals(records)}",
        (
            *("", "epochs", "runs"),
            *(heading for metric in METRICS for heading in (metric, "change")),
            "minutes per run",
        ),
        [_row(group, bases.get((group.epochs, group.precision))) for group in groups],
        [*notes, *hardware_notes(records)],
    )


def _row(group: RunGroup, base: RunGroup | None) -> tuple[str, ...]:
    cells = []
    for metric in METRICS.values():
        cells.append(percent(mean_over_runs([metric(record) for record in group.records])))
        change = None if base is None or base is group else difference(group, base, metric)
        sign = "+" if change is not None and change.mean >= 0 else ""
        cells.append(sign + percent(change))
    return (
        ABLATIONS.title(group),
        f"{group.epochs:,}",
        str(len(group.records)),
        *cells,
        mean_minutes(group),
    )


def difference(group: RunGroup, base: RunGroup, metric: Metric) -> MeanWithCI | None:
    """Return the mean difference of a metric to the base over the seeds that both have.

    Returns:
        The difference with its interval over the seeds. For a single common seed the interval is
        that of two independent samples of crystals. ``None`` without a common seed.
    """
    base_values = {record.seed: metric(record) for record in base.records}
    return mean_over_runs(
        [
            _subtract(metric(record), base_values[record.seed])
            for record in group.records
            if record.seed in base_values
        ]
    )


def _subtract(a: MeanWithCI, b: MeanWithCI) -> MeanWithCI:
    mean = a.mean - b.mean
    low = mean - hypot(a.mean - a.low, b.high - b.mean)
    return MeanWithCI(mean, low, mean + hypot(a.high - a.mean, b.mean - b.low))
