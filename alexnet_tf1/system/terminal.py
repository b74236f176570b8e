"""Prints lines safely; on a terminal they are broken between words."""

import os
import re
import sys
import textwrap
from typing import TextIO

COMMAND = "    "  # begins a line that is a command to copy, which is never broken
_LABEL = re.compile(r"[A-Za-z0-9, ]{1,18}: +")


def show(text: str, stream: TextIO | None = None) -> None:
    """Prints lines; those that are wider than a terminal are broken between words.

    Control characters are spelt out: a name out of a stranger's file may hold a terminal's codes.

    Args:
      text: the lines.
      stream: where to; None for standard output. In a pipe or a file a line stays a line.
    """
    stream = stream or sys.stdout
    width = columns(stream)
    text = "\n".join(map(spelt_out, text.split("\n")))
    print(text if width is None else broken(text, width), file=stream, flush=True)


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
