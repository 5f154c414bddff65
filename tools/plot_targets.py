r"""Plot and tabulate evaluations of conditional policies over several seeds.

Reads reports of `crystal-gym evaluate-targets --folder`, one for each seed, prints a table with
95 % t intervals over the seeds, and writes the plot:

    python -m tools.plot_targets docs/data/conditional/perov-5-heat-design-space.json \
        --image docs/images/conditional.png
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.evaluation.target_summary import (
    TargetSummary,
    read_report,
    save_calibration,
    summarize,
)
from crystal_agents.experiments.tables import Table
from crystal_gym.errors import CrystalGymError

# Columns of the table: heading, metric, factor, digits.
COLUMNS = (
    ("measured", "measured", 1, 2),
    ("mean error", "error", 1, 2),
    ("labeled, %", "labeled", 100, 1),
    ("valid, %", "validity_strict", 100, 1),
    ("distinct, %", "unique", 100, 1),
    ("return", "return", 1, 3),
)


@dataclass
class Args:
    """Plot and tabulate evaluations of conditional policies over several seeds."""

    reports: tyro.conf.Positional[tuple[Path, ...]]
    """Reports (targets.json) with the same requests, one for each seed."""
    image: Path | None = None
    """Write the plot to this PNG file."""


def table(summaries: list[TargetSummary], title: str) -> Table:
    """Return the table of the summaries."""
    columns = [column for column in COLUMNS if column[1] in summaries[0].metrics]
    headings = ("guidance", "requested", *(heading for heading, *_ in columns))
    rows = []
    for row in summaries:
        asked = ("–", "–") if row.asked is None else (f"{row.guidance:g}", f"{row.asked:.2f}")
        cells = (_cell(row.metrics[name], factor, n) for _, name, factor, n in columns)
        rows.append((*asked, *cells))
    return Table(title, headings, rows, [])


def _cell(estimate: MeanWithCI, factor: float, digits: int) -> str:
    if estimate.mean != estimate.mean:  # NaN: not defined for this row
        return "–"
    half = factor * (estimate.high - estimate.mean)
    return f"{factor * estimate.mean:.{digits}f}" + (f" ± {half:.{digits}f}" if half else "")


def main(arguments: list[str] | None = None) -> int:
    """Print the table and write the plot."""
    args = tyro.cli(Args, args=arguments)
    try:
        reports = [read_report(path) for path in args.reports]
        summaries = summarize(reports)
        if args.image is not None:
            save_calibration(reports, args.image)
    except (CrystalGymError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    first = reports[0]
    seeds = f"{len(reports)} seed" + "s" * (len(reports) > 1)
    title = f"{first.label}, {first.n_crystals:,} skeletons of {first.split}, {seeds}"
    print(table(summaries, title).markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
