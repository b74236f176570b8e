"""Shows a live progress bar, on a terminal only."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.1f} steps/s")


@contextmanager
def bar(total: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Shows a bar with rate and time left while the block runs; printed lines appear above it.

    Yields:
      A function to call with the number of steps done.
    """
    columns = (MofNCompleteColumn(), BarColumn(), _Rate(), TimeRemainingColumn())
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")  # cannot move its cursor
    hidden = quiet or dumb or not sys.stdout.isatty()
    # A console of our own: Rich's shared one remembers the terminal it was first used on.
    terminal = Console(force_terminal=sys.stdout.isatty())
    with Progress(*columns, console=terminal, disable=hidden, transient=True) as progress:
        task = progress.add_task("train", total=total)
        yield lambda done: progress.update(task, completed=done)
