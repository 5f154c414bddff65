"""One look for all progress bars."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(title: str, total: int, *, shown: bool) -> Iterator[Callable[..., None]]:
    """Yield ``advance(n, note)``; the bar goes away at the end.

    Args:
        title: what is being done.
        total: how many things are to be done.
        shown: whether to show anything at all.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    note = "{task.fields[note]}"
    columns = (title, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
    # Standard output is for results: they may be read by a program.
    err = Console(stderr=True)
    # In a file or a pipe a bar leaves nothing but empty lines.
    hidden = not (shown and err.is_terminal)
    with Progress(*columns, console=err, disable=hidden, transient=True) as bar:
        task = bar.add_task("", total=total, note="")

        def advance(done: int, note: str = "") -> None:
            bar.update(task, advance=done, note=note)

        yield advance
