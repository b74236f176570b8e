"""Prints lines safely; on a terminal they are broken between words."""

import contextlib
import io
import os
import re
import sys
import textwrap
from typing import TextIO

COMMAND = "    "  # begins a line that is a command to copy, which is never broken
_LABEL = re.compile(r"[A-Za-z0-9, ]{1,18}: +")


class OutputError(Exception):
    """Standard output or standard error takes no more; the cause is the system's error."""


def open_streams() -> None:
    """Makes sure that every standard stream is there and takes any text.

    Where one is closed, the next file to be opened would get its number, and what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            with contextlib.suppress(OSError):
                _lead_nowhere(number)
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and number > 0:
            stream.reconfigure(errors="backslashreplace")  # what an ASCII console cannot print


def _lead_nowhere(number: int) -> None:
    """Makes a file descriptor one of the null device."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)


def show(text: str, stream: TextIO | None = None) -> None:
    """Prints lines; those that are wider than a terminal are broken between words.

    Control characters are spelt out: a name out of a stranger's file may hold a terminal's codes.

    Args:
      text: the lines.
      stream: where to; None for standard output. In a pipe or a file a line stays a line.

    Raises:
      OutputError: if they cannot be written.
    """
    stream = stream or sys.stdout
    width = columns(stream)
    text = "\n".join(map(spelt_out, text.split("\n")))
    write(text if width is None else broken(text, width), stream)


def write(text: str, stream: TextIO | None = None) -> None:
    """Prints text as it is, to standard output where no stream is named; errors as of `show`."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        with contextlib.suppress(OSError):  # io.UnsupportedOperation is one
            _lead_nowhere(stream.fileno())  # Python writes what is left once more when it ends
        raise OutputError from error


def spelt_out(line: str) -> str:
    r"""Spells out what is not printable in a line: an escape character becomes `\x1b`."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def columns(stream: TextIO) -> int | None:
    """Returns the width of a terminal in characters; None for what is no terminal."""
    if not stream.isatty():
        return None
    return os.get_terminal_size(stream.fileno()).columns or 80  # 0: it does not say


def broken(text: str, width: int) -> str:
    """Breaks lines between words; what follows a label stays in the label's column.

    A word that is wider stays whole, as do commands, which are there to be copied, and tables.
    """
    return "\n".join(_broken(line, width) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    if len(line) <= width or line.startswith((COMMAND, "|")):
        return line
    label = _LABEL.match(line)
    start = label[0] if label else ""
    return textwrap.fill(
        line[len(start) :],
        width,
        initial_indent=start,
        subsequent_indent=" " * (len(start) or 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
