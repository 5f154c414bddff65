"""One look for all progress bars of this package."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(title: str, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Yield ``advance(n)``; the bar goes away at the end.

    Args:
        title: what is being done.
        total: how many things are to be done.
        shown: whether to show anything at all.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (title, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Standard output is for results: they may be read by a program.
    err = Console(stderr=True)
    with Progress(*columns, console=err, disable=not shown, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.advance(task, done)
