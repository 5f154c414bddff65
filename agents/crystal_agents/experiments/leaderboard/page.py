"""The leaderboard page: tables and plots of the submissions, written into the documents."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystal_agents.evaluation.statistics import MeanWithCI, aggregate
from crystal_agents.experiments.leaderboard.checks import read_folder
from crystal_agents.experiments.leaderboard.submission import OWN_CODE, Submission, schema_text
from crystal_agents.experiments.leaderboard.tasks import TASKS, LeaderboardTask, Metric
from crystal_gym.errors import DamagedFileError, MissingDataError
from crystal_gym.utils.files import atomic_write
from crystal_gym.utils.identity import short_fingerprint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The generated part of the page is between these lines.
BEGIN = "<!-- begin: written by `crystal-gym leaderboard render` -->"
END = "<!-- end -->"
# Key of a plot's text that identifies the submissions in it.
_DIGEST = "Submissions"
# Characters of a method's name in a plot.
_LONGEST_LABEL = 55
# Characters that Markdown or HTML would interpret.
_SPECIAL = r"\`*_{}[]<>#|~!&"


@dataclass(frozen=True)
class Documents:
    """The files of the leaderboard in the folder of the documents.

    Attributes:
        folder: The folder of the documents.
    """

    folder: Path

    @property
    def page(self) -> Path:
        """The page, whose generated part is between ``BEGIN`` and ``END``."""
        return self.folder / "leaderboard.md"

    @property
    def submissions(self) -> Path:
        """The folder of the submissions."""
        return self.folder / "leaderboard" / "submissions"

    @property
    def schema(self) -> Path:
        """The JSON schema of submissions."""
        return self.folder / "leaderboard" / "schema.json"

    def plot(self, task: str) -> Path:
        """Return the path of a task's plot."""
        return self.folder / "images" / "leaderboard" / f"{task.replace('/', '-')}.png"


@dataclass(frozen=True)
class RankedSubmission:
    """A submission with the statistics of its metrics.

    Attributes:
        path: Its file.
        submission: The submission.
        estimates: Mean or interquartile mean over the seeds with its interval, by metric.
    """

    path: Path
    submission: Submission
    estimates: Mapping[str, MeanWithCI]


Ranking = list[RankedSubmission]


def render(documents: Documents) -> list[Path]:
    """Validate all submissions and write the page, the plots and the schema.

    Files that are up to date are not written.

    Args:
        documents: The files.

    Returns:
        The paths of the files that were written.

    Raises:
        MissingDataError: If the page or the folder of submissions is missing.
        SubmissionError: If a submission is invalid.
        DamagedFileError: If the page does not contain the lines ``BEGIN`` and ``END``.
        StorageError: If a file cannot be written.
    """
    rankings = _rankings(documents)
    stale = _outdated(documents, rankings)
    tasks = {documents.plot(name): name for name in TASKS}
    for path in stale:
        with atomic_write(path) as temporary:
            if path == documents.page:
                temporary.write_text(_page_text(documents, rankings), "utf-8")
            elif path == documents.schema:
                temporary.write_text(schema_text(), "utf-8")
            else:
                task, rows = TASKS[tasks[path]], rankings[tasks[path]]
                metadata = {_DIGEST: _digest(task, rows)}
                plot(task, rows).savefig(temporary, format="png", metadata=metadata)
    return stale


def outdated(documents: Documents) -> list[Path]:
    """Return the files that ``render`` would write: page, schema and plots.

    Plots are compared by the digest of the submissions that they contain.

    Raises:
        MissingDataError: If the page or the folder of submissions is missing.
        SubmissionError: If a submission is invalid.
        DamagedFileError: If the page does not contain the lines ``BEGIN`` and ``END``.
    """
    return _outdated(documents, _rankings(documents))


def rank(task: LeaderboardTask, submissions: Mapping[Path, Submission]) -> Ranking:
    """Return the submissions of a task, the best first."""
    rows = []
    for path, submission in submissions.items():
        if submission.task == task.name:
            samples = {key: np.array(submission.values[key]) for key in task.metrics}
            estimates = {
                key: aggregate([values]) if task.interquartile else MeanWithCI.of(values)
                for key, values in samples.items()
            }
            rows.append(RankedSubmission(path, submission, estimates))
    sign = -1 if task.higher_is_better else 1
    return sorted(
        rows, key=lambda row: (sign * row.estimates[task.ranked_by].mean, row.submission.method)
    )


def _rankings(documents: Documents) -> dict[str, Ranking]:
    submissions = read_folder(documents.submissions)
    return {name: rank(task, submissions) for name, task in TASKS.items()}


def _outdated(documents: Documents, rankings: Mapping[str, Ranking]) -> list[Path]:
    found = []
    if _read(documents.page) != _page_text(documents, rankings):
        found.append(documents.page)
    if not documents.schema.is_file() or _read(documents.schema) != schema_text():
        found.append(documents.schema)
    for name, rows in rankings.items():
        if rows and _plotted(documents.plot(name)) != _digest(TASKS[name], rows):
            found.append(documents.plot(name))
    return found


def _page_text(documents: Documents, rankings: Mapping[str, Ranking]) -> str:
    """Return the page with its generated part replaced."""
    text = _read(documents.page)
    before, begin, rest = text.partition(f"\n{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not begin or not end:
        raise DamagedFileError(
            f"Expected the lines {BEGIN} and {END} in {documents.page}, got a page without them. "
            "Restore the page."
        )
    parts = ["## Tasks", tasks_table(), "## Results"]
    for name, rows in rankings.items():
        parts += [f"### {name}", TASKS[name].description]
        if rows:
            image = documents.plot(name).relative_to(documents.folder).as_posix()
            table = build_table(TASKS[name], rows, documents.folder)
            parts += [table, f"![{TASKS[name].ranked_by} by method]({image})"]
        else:
            parts.append("No submission yet.")
    return "".join([before, begin, "\n", "\n\n".join(parts), "\n\n", end, after])


def build_table(task: LeaderboardTask, rows: Ranking, folder: Path) -> str:
    """Return the table of a task in Markdown.

    Args:
        task: The task.
        rows: Its submissions in the order of the table.
        folder: The folder of the page, to which the links are relative.
    """
    cells = [
        (
            f"[{_escape(row.submission.method)}]({row.path.relative_to(folder).as_posix()})",
            *(_estimate(row.estimates[key], metric) for key, metric in task.metrics.items()),
            str(len(row.submission.seeds)),
            "yes" if row.submission.expert_data else "no",
            _count(row.submission.environment_steps),
            _count(row.submission.oracle_calls),
            _authors(row.submission),
            row.submission.date.isoformat(),
        )
        for row in rows
    ]
    headings = (
        "method",
        *(metric.heading for metric in task.metrics.values()),
        *("runs", "expert data", "steps", "oracle calls", "authors", "date"),
    )
    return _markdown(headings, cells, text=("method", "expert data", "authors", "date"))


def tasks_table() -> str:
    """Return the table of tasks in Markdown: metrics with their ranges, and fingerprints."""
    headings = ("task", "values, range", "first in the table", "shown", "collection", "labels")
    rows = [
        (
            name,
            "; ".join(f"`{key}`, {_range(metric)}" for key, metric in task.metrics.items()),
            f"{'highest' if task.higher_is_better else 'lowest'} `{task.ranked_by}`",
            "interquartile mean" if task.interquartile else "mean",
            short_fingerprint(task.collection_sha256),
            short_fingerprint(task.labels_sha256) if task.labels_sha256 else "",
        )
        for name, task in TASKS.items()
    ]
    return _markdown(headings, rows, text=headings)


def plot(task: LeaderboardTask, rows: Ranking) -> "Figure":
    """Plot the ranked metric of each submission with its interval, the best at the top."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    metric = task.metrics[task.ranked_by]
    figure = Figure(figsize=(7, 1.2 + 0.27 * len(rows)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for position, row in enumerate(rows):
        estimate = row.estimates[task.ranked_by]
        color = "C0" if row.submission.expert_data else "C1"
        limits = [metric.scale * estimate.low, metric.scale * estimate.high]
        axes.plot(limits, [position, position], color=color, linewidth=2)
        axes.plot(metric.scale * estimate.mean, position, "o", color=color)
    # Dollar signs would start mathematical notation.
    names = [_shortened(row.submission.method).replace("$", r"\$") for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel(metric.heading)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    for color, label in (("C0", "with expert data"), ("C1", "without expert data")):
        axes.plot([], [], "o-", color=color, label=label)
    axes.figure.legend(loc="outside lower right", ncols=2, fontsize="small", frameon=False)
    axes.grid(visible=True, axis="x", alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"


def _estimate(estimate: MeanWithCI, metric: Metric) -> str:
    """Format an estimate with its interval, if it has any, in the unit of the heading."""
    mean, low, high = (
        f"{metric.scale * value:,.{metric.digits}f}".replace("-", "−")
        for value in (estimate.mean, estimate.low, estimate.high)
    )
    return mean if low == high else f"{mean} [{low}, {high}]"


def _markdown(headings: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[str]) -> str:
    """Return a table in Markdown, in which columns other than ``text`` hold numbers."""
    rules = ["---" if heading in text else "---:" for heading in headings]
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, rules, *rows))


def _range(metric: Metric) -> str:
    return f"{metric.low:g} to {metric.high:,g}".replace("-", "−")


def _count(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _authors(submission: Submission) -> str:
    names = ", ".join(map(_escape, submission.authors))
    links = [] if submission.code == OWN_CODE else [_link("code", submission.code)]
    links += [_link("paper", submission.paper)] if submission.paper else []
    return f"{names} ({', '.join(links)})" if links else names


def _link(text: str, url: str) -> str:
    # Parentheses would end the link.
    return f"[{text}]({url.replace('(', '%28').replace(')', '%29')})"


def _escape(text: str) -> str:
    return "".join(f"\\{character}" if character in _SPECIAL else character for character in text)


def _digest(task: LeaderboardTask, rows: Ranking) -> str:
    """Return the SHA-256 of what a plot shows."""
    heading = task.metrics[task.ranked_by].heading
    text = "\n".join([heading, *(row.submission.text() for row in rows)])
    return hashlib.sha256(text.encode()).hexdigest()


def _plotted(path: Path) -> str | None:
    """Return the digest in a plot, or ``None`` if there is no readable plot."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.info.get(_DIGEST)
    except (OSError, UnidentifiedImageError):
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise MissingDataError(
            f"Expected a page {path}, got no file. Run the command in a checkout of the repository."
        ) from error
