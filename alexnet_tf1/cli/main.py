"""The entry point: reads the arguments, runs one command, prints an error as one line."""

import sys
import warnings
from collections.abc import Callable, Sequence

from alexnet_tf1.cli import arguments
from alexnet_tf1.cli.commands import BAD_INPUT
from alexnet_tf1.errors import UserError
from alexnet_tf1.reporting.text import one_line
from alexnet_tf1.system.terminal import show


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: the arguments after the program's name; None for those of this process.

    Returns:
      The exit status: 0 done, 1 faults were found, 2 bad usage or bad input (one line on
      standard error), 128 + N stopped by signal N.
    """
    given = vars(arguments.parser().parse_args(argv))
    command: Callable[..., int] = given.pop("command")
    # As one plain line, without the place in the code.
    warnings.showwarning = lambda message, *_, **__: show(f"warning: {message}", sys.stderr)
    try:
        return command(**given)
    except UserError as error:
        show(one_line(f"error: {error}"), sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
