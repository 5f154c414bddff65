"""Progress bars of the command line."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(title: str, total: int, *, shown: bool) -> Iterator[Callable[..., None]]:
    """Show a progress bar inside the block; yield ``advance(n, note)``, which moves it by n.

    Args:
        title: Text before the bar.
        total: Number of items.
        shown: Whether to show the bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    note = "{task.fields[note]}"
    columns = (title, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
    # Standard output is for results, which a program may read.
    err = Console(stderr=True)
    # In a file or a pipe, a bar would only write empty lines.
    hidden = not (shown and err.is_terminal)
    with Progress(*columns, console=err, disable=hidden, transient=True) as bar:
        task = bar.add_task("", total=total, note="")

        def advance(done: int, note: str = "") -> None:
            bar.update(task, advance=done, note=note)

        yield advance
