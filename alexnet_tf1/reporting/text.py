"""Formats text: one line for a terminal, aligned lines, lists of names, Markdown."""

import os
import re
import sys
import textwrap
from collections.abc import Iterable
from typing import TextIO

MOST_SHOWN = 2_000  # characters of a line
COMMAND = "    "  # begins a line that is a command to copy, which is never broken
_LABEL = re.compile(r"[A-Za-z0-9, ]{1,18}: +")


def one_line(text: str) -> str:
    """Makes any text, such as a file's name, safe to print as one line on a terminal.

    Control characters are spelt out, and a very long text loses its middle.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(text) > MOST_SHOWN:
        text = f"{text[: MOST_SHOWN - 400]} ... {text[-400:]}"
    return text


def show(text: str, stream: TextIO | None = None) -> None:
    """Prints lines; those that are wider than a terminal are broken between words.

    Args:
      text: the lines.
      stream: where to; None for standard output. In a pipe or a file a line stays a line.
    """
    stream = stream or sys.stdout
    width = columns(stream)
    print(text if width is None else broken(text, width), file=stream, flush=True)


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


def aligned(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Formats rows as lines `label: text`, with the texts in one column."""
    rows = list(rows)
    width = max(len(label) for label, _ in rows) + 2
    return [f"{label + ':':<{width}}{text}" for label, text in rows]


def listed(names: Iterable[str]) -> str:
    """Joins at least one name as in a sentence: "A", "A and B", "A, B and C"."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def plain_markdown(text: str) -> str:
    """Escapes any text for Markdown: one line that ends no table's cell and opens no markup."""
    text = one_line(text)
    return re.sub(
        r"(?<![^\W_])_|_(?![^\W_])|[^\w .,=+/():@%-]", lambda found: f"&#{ord(found[0])};", text
    )
