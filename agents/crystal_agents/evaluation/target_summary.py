"""Evaluations of conditional policies over several seeds: means, intervals and the plot."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.evaluation.targets import TargetReport, TargetRow
from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.utils.files import atomic_write


@dataclass(frozen=True)
class TargetSummary:
    """The fillings for one requested value, over the policies of several seeds.

    Attributes:
        asked: See ``TargetRow``.
        guidance: See ``TargetRow``.
        deviation: Mean over the seeds of the standard deviation of the measured labels.
        metrics: ``measured``, ``error`` and the metrics of ``TargetRow``, with the 95 % t interval
            over the seeds.
    """

    asked: float | None
    guidance: float
    deviation: float
    metrics: dict[str, MeanWithCI]


def read_report(path: Path) -> TargetReport:
    """Read a report that `crystal-gym evaluate-targets --folder` has written.

    Raises:
        DamagedFileError: If the file is not such a report.
        StorageError: If the file cannot be read.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
        fields = {name: record[name] for name in TargetReport.__dataclass_fields__}
        fields["rows"] = [TargetRow(**row) for row in fields["rows"]]
        fields["correlation"] = {float(w): value for w, value in fields["correlation"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(
            f"Expected a report of `crystal-gym evaluate-targets` in {path}, got "
            f"{type(error).__name__}: {error}. Evaluate the policy again."
        ) from error
    return TargetReport(**fields)


def summarize(reports: Sequence[TargetReport]) -> list[TargetSummary]:
    """Average the rows of reports of policies that differ by their seed.

    Args:
        reports: One report for each seed, with the same requests.

    Returns:
        One summary for each row, in the order of the first report.

    Raises:
        CrystalGymError: If there is no report, or the reports differ in label, labels, split or
            requests.
    """
    distinct = {_identity(report) for report in reports}
    if len(distinct) != 1:
        raise CrystalGymError(
            f"Expected reports with the same label, crystals and requests, got {len(distinct)} "
            f"kinds in {len(reports)} reports. Evaluate all policies with the same command."
        )
    return [_summary(rows) for rows in zip(*(report.rows for report in reports), strict=True)]


def _identity(report: TargetReport) -> tuple[object, ...]:
    requests = tuple((row.asked, row.guidance, *row.metrics) for row in report.rows)
    return report.label, report.labels_sha256, report.split, report.reward, requests


def _summary(rows: Sequence[TargetRow]) -> TargetSummary:
    first = rows[0]
    values = {
        "measured": [row.measured for row in rows],
        "error": [row.error for row in rows],
        **{name: [row.metrics[name] for row in rows] for name in first.metrics},
    }
    return TargetSummary(
        first.asked,
        first.guidance,
        float(np.mean([row.deviation for row in rows])),
        {name: MeanWithCI.of_seeds(np.array(column)) for name, column in values.items()},
    )


def save_calibration(reports: Sequence[TargetReport], path: Path) -> Path:
    """Plot measured against requested values, with validity and diversity, as a PNG file.

    One line per guidance. Bars are 95 % t intervals over the seeds, and shaded areas one standard
    deviation of the measured values.

    Args:
        reports: One report for each seed, see ``summarize``.
        path: The file.

    Raises:
        CrystalGymError: If the reports do not belong together.
        StorageError: If the file cannot be written.
    """
    from matplotlib.figure import Figure

    summaries = summarize(reports)
    label = reports[0].label
    figure = Figure(figsize=(10.5, 4.0), dpi=150, layout="constrained")
    panels = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    headings = {
        "measured": f"measured {label}",
        "validity_strict": "valid fillings (strict)",
        "unique": "distinct fillings",
    }
    requested = [row for row in summaries if row.asked is not None]
    for axes, (name, heading) in zip(panels, headings.items(), strict=True):
        for i, strength in enumerate(dict.fromkeys(row.guidance for row in requested)):
            rows = [row for row in requested if row.guidance == strength]
            asked = np.array([row.asked for row in rows])
            means = np.array([row.metrics[name].mean for row in rows])
            half = [row.metrics[name].high - row.metrics[name].mean for row in rows]
            text = f"guidance {strength:g}"
            axes.errorbar(asked, means, half, fmt="o-", markersize=4, color=f"C{i}", label=text)
            if name == "measured":
                spread = np.array([row.deviation for row in rows])
                axes.fill_between(asked, means - spread, means + spread, color=f"C{i}", alpha=0.1)
        for row in summaries:
            if row.asked is None:
                mean = row.metrics[name].mean
                axes.axhline(mean, color="gray", linestyle="--", label="no request")
        axes.set_xlabel(f"requested {label}")
        axes.set_ylabel(heading)
        axes.grid(visible=True, alpha=0.3)
        if name != "measured":
            axes.set_ylim(0, 1.05)
    values = [row.asked for row in requested if row.asked is not None]
    ends = [min(values), max(values)]
    panels[0].plot(ends, ends, color="black", linestyle=":")
    panels[0].legend(frameon=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")
    return path
