"""Base class of the commands, and functions for their output."""

import abc
import sys
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from rich.console import Console

    from crystal_agents.experiments.tables import Table

RESUMES = "Rerun the same command to resume from the last checkpoint, if there is one."


class Command(abc.ABC):
    """A command of ``crystal-gym``; subclasses are dataclasses whose fields become its arguments.

    ``--help`` shows the class docstring and the docstrings of the fields. Modules of commands
    import no heavy library at the top, so that help and usage errors appear at once.

    Attributes:
        after_stop: Advice printed after Ctrl-C: which results are kept, and how to resume.
    """

    after_stop: ClassVar[str] = "No partial file is left. Rerun the same command."

    @abc.abstractmethod
    def run(self) -> None:
        """Run the command.

        Raises:
            CrystalGymError: If the input is invalid; the command line ends with exit code 2.
        """


def console() -> "Console":
    """Return the console of standard output, 160 columns wide in a file or a pipe."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 160
    return Console(width=width, markup=False, highlight=False)


def print_table(table: "Table") -> None:
    """Print a table of results with its notes below it."""
    import rich.table

    printed = rich.table.Table(title=table.title, caption="\n".join(table.notes))
    for i, heading in enumerate(table.headings):
        printed.add_column(heading, justify="right" if i else "left", no_wrap=i > 0)
    for row in table.rows:
        printed.add_row(*row)
    console().print(printed)
