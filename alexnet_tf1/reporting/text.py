"""Formats text: one line for a terminal, aligned lines, lists of names, Markdown."""

import re
from collections.abc import Iterable

from alexnet_tf1.system.terminal import spelt_out

MOST_SHOWN = 2_000  # characters of a line


def one_line(text: str) -> str:
    """Makes any text, such as a file's name, safe to print as one line on a terminal.

    Control characters are spelt out, and a very long text loses its middle.
    """
    text = spelt_out(text)
    if len(text) > MOST_SHOWN:
        text = f"{text[: MOST_SHOWN - 400]} ... {text[-400:]}"
    return text


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
