"""The entry point: reads the arguments, runs one command, prints an error as one line."""

import contextlib
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

from alexnet_tf1.cli import arguments
from alexnet_tf1.cli.commands import BAD_INPUT, BROKEN
from alexnet_tf1.errors import UserError
from alexnet_tf1.files import reason
from alexnet_tf1.reporting.text import one_line
from alexnet_tf1.system.terminal import OutputError, open_streams, show


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: the arguments after the program's name; None for those of this process.

    Returns:
      The exit status: 0 done, 1 faults were found, 2 bad usage or bad input, 70 an error of the
      program itself (one line on standard error), 128 + N stopped by signal N.
    """
    open_streams()
    given = vars(arguments.parser().parse_args(argv))
    command: Callable[..., int] = given.pop("command")
    debug: bool = given.pop("debug")
    # As one plain line, without the place in the code.
    warnings.showwarning = lambda message, *_, **__: show(f"warning: {message}", sys.stderr)
    try:
        return command(**given)
    except (Exception, KeyboardInterrupt) as error:
        line, status = _explained(error)
        with contextlib.suppress(OutputError):  # standard error is gone: the status has to do
            if debug:
                show(traceback.format_exc().rstrip(), sys.stderr)
            if line:
                show(one_line(f"error: {line}"), sys.stderr)
        return status


def _explained(error: BaseException) -> tuple[str, int]:
    """Turns whatever ended a command into the line to print, if any, and the exit status."""
    if isinstance(error, UserError):
        return str(error), BAD_INPUT
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 128 + signal.SIGINT
    if isinstance(error, OutputError):
        if isinstance(error.__cause__, BrokenPipeError):  # the reader has seen enough, as `head`
            return "", 128 + signal.SIGPIPE
        why = reason(error.__cause__) if error.__cause__ else "closed"
        return f"the output cannot be written ({why}); free the place it goes to", BAD_INPUT
    if isinstance(error, MemoryError):
        return "the memory does not suffice; free some, or allow more (ulimit -v)", BAD_INPUT
    found = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
    return f"{found} (an error of the program itself; --debug shows where)", BROKEN
