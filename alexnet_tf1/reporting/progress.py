"""Shows a live progress bar, on a terminal only."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO

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
        return Text(f"{task.speed or 0:.1f} {task.description}/s")


@contextmanager
def bar(
    total: int,
    unit: str,
    *,
    done: int = 0,
    quiet: bool = False,
    stream: TextIO | None = None,
) -> Iterator[Callable[[int], None]]:
    """Shows a bar with rate and time left while the block runs; printed lines appear above it.

    Args:
      total: units to do.
      unit: what is counted, e.g. "steps".
      done: units that were done before.
      quiet: whether to show none.
      stream: where to show it, if that is a terminal; None for standard output.

    Yields:
      A function to call with the number of units that have been done since its last call.
    """
    stream = stream or sys.stdout
    columns = (MofNCompleteColumn(), BarColumn(), _Rate(), TimeRemainingColumn())
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")  # cannot move its cursor
    hidden = quiet or dumb or not stream.isatty()
    # A console of our own: Rich's shared one remembers the terminal it was first used on.
    terminal = Console(file=stream, force_terminal=stream.isatty())
    with Progress(*columns, console=terminal, disable=hidden, transient=True) as progress:
        task = progress.add_task(unit, total=total, completed=done)
        yield lambda count: progress.update(task, advance=count)


@contextmanager
def bars(unit: str) -> Iterator[Callable[[str, int, int], None]]:
    """Shows a bar on standard error for each thing that is done, one after the other.

    Args:
      unit: what is counted, e.g. "examples".

    Yields:
      A function to call with what is done, how much of it has been done, and of how much.
    """
    doing, before = "", 0
    advance: Callable[[int], None]
    with ExitStack() as shown:

        def told(what: str, done: int, whole: int) -> None:
            nonlocal doing, before, advance
            if what != doing:
                shown.close()
                advance = shown.enter_context(bar(whole, unit, stream=sys.stderr))
                doing, before = what, 0
            advance(done - before)
            before = done

        yield told
