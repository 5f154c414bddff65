"""Tables of results as Markdown text."""

from dataclasses import dataclass
from pathlib import Path

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_gym.utils.files import atomic_write


@dataclass(frozen=True)
class Table:
    """A table of results as text.

    Attributes:
        title: Title, one line.
        headings: Headings of the columns. The first column holds text, the others hold numbers.
        rows: Cells of each row.
        notes: Sentences printed below the table.
    """

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str]

    def markdown(self) -> str:
        """Return the table as Markdown, with the title above it and the notes below it."""
        rules = ("---", *["---:"] * (len(self.headings) - 1))
        rows = ["| " + " | ".join(row) + " |" for row in (self.headings, rules, *self.rows)]
        return "\n".join([self.title, "", *rows, "", *(f"- {note}" for note in self.notes), ""])

    def save(self, path: Path) -> Path:
        """Write the table as Markdown and return the path.

        Raises:
            StorageError: If the file cannot be written.
        """
        with atomic_write(path) as temporary:
            temporary.write_text(self.markdown(), "utf-8")
        return path


def percent(estimate: MeanWithCI | None) -> str:
    """Format a fraction as a percentage with half the width of its interval, if it has any.

    Returns:
        For example ``"49.53 ± 0.41"``; an empty string for ``None``.
    """
    return _with_half_width(estimate, scale=100, digits=2)


def number(estimate: MeanWithCI | None) -> str:
    """Format a mean with half the width of its interval, if it has any.

    Returns:
        For example ``"-2.540 ± 0.432"``; an empty string for ``None``.
    """
    return _with_half_width(estimate, scale=1, digits=3)


def _with_half_width(estimate: MeanWithCI | None, *, scale: int, digits: int) -> str:
    if estimate is None:
        return ""
    half = (estimate.high - estimate.low) / 2
    text = f"{scale * estimate.mean:.{digits}f}"
    return text + (f" ± {scale * half:.{digits}f}" if half else "")
