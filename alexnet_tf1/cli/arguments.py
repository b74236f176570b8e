"""What the commands' parsers share: one-line complaints, types of arguments, common options."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from alexnet_tf1.cli import commands as run
from alexnet_tf1.reporting import text as report


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are one line, as all of this program's are."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with a line and the status of bad usage."""
        print(report.one_line(f"error: {message}; see {self.prog} --help"), file=sys.stderr)
        raise SystemExit(run.BAD_INPUT)


def command(
    commands: Any, name: str, run: Callable[..., int], summary: str, description: str
) -> argparse.ArgumentParser:
    """Adds a command: `run` is called with its options by name and gives the exit status."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description
    )
    parser.set_defaults(command=run)
    return parser


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds RUN and what goes with measuring a run."""
    parser.add_argument("run", type=text, metavar="RUN", help="a run folder")
    add_checkpoint(parser)
    parser.add_argument(
        "--data-dir", type=text, metavar="DIR", help="folder of CIFAR-10 (default: the run's)"
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds --checkpoint."""
    parser.add_argument(
        "--checkpoint",
        type=text,
        metavar="STEP|PREFIX",
        help="which checkpoint (default: the newest)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds --json."""
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON only")


def text(given: str) -> str:
    """A name; an empty one is a shell variable that was not set, and no wish for the default."""
    if not given.strip():
        raise argparse.ArgumentTypeError("nothing is given; leave the option out for its default")
    return given


def switch(name: str) -> str | bool:
    """A tensor's name, or True or False."""
    return {"true": True, "false": False}.get(name.lower(), text(name))


def positive(given: str) -> int:
    """A whole number of at least 1."""
    value = int(given)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too small; use at least 1")
    return value


def finite(given: str) -> float:
    """A number that is neither infinite nor NaN."""
    value = float(given)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{given} is not a finite number")
    return value


finite.__name__ = "number"
positive.__name__ = "whole number"  # what argparse calls it in "invalid ... value"
