"""What every command of ``crystal-gym`` is: a dataclass of arguments with a ``run``."""

import abc
import sys
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from rich.console import Console

    from crystal_agents.experiments.tables import Table


class Command(abc.ABC):
    """A command; its subclasses are dataclasses whose fields tyro turns into arguments.

    The class docstring and the docstrings of the fields are what ``--help`` shows. Modules of
    commands import nothing heavy at their top: ``--help`` and mistakes are answered at once.

    Attributes:
        after_stop: what to tell a user who pressed Ctrl-C: what is kept and how to go on.
    """

    after_stop: ClassVar[str] = "Nothing was left half-made; run the same command again."

    @abc.abstractmethod
    def run(self) -> None:
        """Do it.

        Raises:
            CrystalGymError: a mistake of the user's; the command line ends with exit code 2.
        """


def console(*, stderr: bool = False) -> "Console":
    """Plain text and tables; in a file or a pipe 160 columns wide. Progress goes to stderr."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 160
    return Console(stderr=stderr, width=width, markup=False, highlight=False)


def print_table(table: "Table") -> None:
    """Print a table of results, its notes below."""
    import rich.table

    shown = rich.table.Table(title=table.title, caption="\n".join(table.notes))
    for i, heading in enumerate(table.headings):
        shown.add_column(heading, justify="right" if i else "left", no_wrap=i > 0)
    for row in table.rows:
        shown.add_row(*row)
    console().print(shown)
