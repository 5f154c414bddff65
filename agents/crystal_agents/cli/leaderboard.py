"""``crystal-gym leaderboard``: add rows to the leaderboard and write its page."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import tyro

from crystal_agents.cli.command import Command, console
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from crystal_agents.experiments.leaderboard.export import Export

# The folder of submissions in a checkout.
SUBMISSIONS = Path("docs") / "leaderboard" / "submissions"


@dataclass
class Leaderboard(Command):
    """Add a row to the leaderboard: one JSON file for each task and method.

    template TASK FILE writes a submission to complete; export FILE... writes the submissions of
    finished runs; check FILE... validates submissions; render writes the tables and plots of the
    page.
    """

    after_stop: ClassVar[str] = "Rerun the same command."

    action: tyro.conf.Positional[Literal["template", "export", "check", "render"]]
    """What to do."""

    arguments: tyro.conf.Positional[tuple[str, ...]] = ()
    """template: name of a task and a file. export: files of records, which are benchmark.json,
    discovery.json, table-1.json, or outputs of evaluate --json. check: submissions (default:
    all)."""

    authors: tuple[str, ...] = ()
    """For export: names of the authors."""

    folder: Path | None = None
    """For export: folder of the submissions (default: docs/leaderboard/submissions)."""

    def run(self) -> None:
        """Run the action."""
        actions = {
            "template": self._template,
            "export": self._export,
            "check": self._check,
            "render": self._render,
        }
        actions[self.action]()

    def _template(self) -> None:
        from crystal_agents.experiments.leaderboard.measure import template
        from crystal_gym.utils.files import atomic_write

        if len(self.arguments) != 2:
            raise CrystalGymError(
                f"Expected the name of a task and a file, got {len(self.arguments)} arguments. "
                "Pass, for example, perov-5/match my-method.json."
            )
        text, path = template(self.arguments[0]), Path(self.arguments[1])
        if path.exists():
            raise CrystalGymError(f"Expected no file {path}, got a file. Choose another name.")
        with atomic_write(path) as temporary:
            temporary.write_text(text, "utf-8")

    def _export(self) -> None:
        from crystal_agents.experiments.leaderboard.export import export_files

        if not self.arguments:
            raise CrystalGymError("Expected files of records, got none. Pass at least one file.")
        export = export_files([Path(name) for name in self.arguments], self.authors)
        save_export(export, self.folder or SUBMISSIONS)

    def _check(self) -> None:
        from crystal_agents.experiments.leaderboard.checks import read_all, read_folder

        if self.arguments:
            submissions = read_all(map(Path, self.arguments))
        else:
            submissions = read_folder(SUBMISSIONS)
        for path, submission in submissions.items():
            console().print(f"{path}: {submission.method} on {submission.task}", soft_wrap=True)

    def _render(self) -> None:
        from crystal_agents.experiments.leaderboard.page import Documents, render

        for path in render(Documents(SUBMISSIONS.parents[1])):
            console().print(str(path), soft_wrap=True)


def save_export(export: "Export", folder: Path) -> None:
    """Write the submissions of an export, and print their paths and what is left out.

    Raises:
        CrystalGymError: If there is no submission.
        SubmissionError: If other authors have a file of the same name.
        StorageError: If a file cannot be written.
    """
    from crystal_agents.experiments.leaderboard.export import save_submissions

    if not export.submissions:
        reasons = "\n".join(export.left_out)
        raise CrystalGymError(
            "Expected results of at least one task of the leaderboard, got none. Choose other "
            f"results.\n{reasons}"
        )
    for sentence in export.left_out:
        console().print(f"Left out: {sentence}", soft_wrap=True)
    for path in save_submissions(export.submissions, folder):
        console().print(str(path), soft_wrap=True)
