"""Tables of results as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crystal_agents.evaluation import Estimate
from crystal_agents.reproduction.experiment import Line
from crystal_agents.reproduction.results import Record
from crystal_gym.files import written_beside

# The paper's values are of these crystals.
PAPER_COLLECTION = "perov-5"
INTERVALS = (
    "± is half the 95 % bootstrap interval: over the runs where there are several, over the "
    "crystals where there is one."
)


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

    def save(self, path: Path) -> Path:
        """Write it as Markdown.

        Raises:
            StorageError: the file cannot be written.
        """
        with written_beside(path) as beside:
            beside.write_text(self.markdown())
        return path


def crystals_of(records: Sequence[Record]) -> str:
    """What was filled, and how often, for a table's title."""
    first = records[0]
    return (
        f"{Path(first.collection).name}, {first.n_crystals:,} test crystals, "
        "mean over up to five sources, %"
    )


def hardware_of(records: Sequence[Record]) -> list[str]:
    """A note on where something was learned, if anything was."""
    hardware = sorted({record.hardware for record in records if record.epochs})
    return [f"Hardware: {'; '.join(hardware)}."] if hardware else []


def percent(estimate: Estimate | None) -> str:
    """Mean and half the interval, if it has one; nothing for ``None``."""
    if estimate is None:
        return ""
    half = (estimate.high - estimate.low) / 2
    return f"{100 * estimate.mean:.2f}" + (f" ± {100 * half:.2f}" if half else "")


def minutes(line: Line) -> str:
    """Mean time of training; nothing where nothing is learned."""
    return f"{np.mean([r.seconds for r in line.records]) / 60:.1f}" if line.epochs else ""
