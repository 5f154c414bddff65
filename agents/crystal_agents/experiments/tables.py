"""Tables of results as text."""

from dataclasses import dataclass
from pathlib import Path

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_gym.utils.files import atomic_write


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
        with atomic_write(path) as beside:
            beside.write_text(self.markdown())
        return path


def percent(estimate: MeanWithCI | None) -> str:
    """Mean and half the interval, if it has one; nothing for ``None``."""
    if estimate is None:
        return ""
    half = (estimate.high - estimate.low) / 2
    return f"{100 * estimate.mean:.2f}" + (f" ± {100 * half:.2f}" if half else "")
