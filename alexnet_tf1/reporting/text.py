"""Text for a terminal's lines and for Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_SHOWN = 2_000  # characters of a line


def one_line(text: str) -> str:
    """Text that a file may have chosen, made fit for a line on a terminal.

    Args:
      text: any text.

    Returns:
      The text with control characters spelt out and, if it is very long, without its middle.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(text) > MOST_SHOWN:
        text = f"{text[: MOST_SHOWN - 400]} ... {text[-400:]}"
    return text


def aligned(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Lines of a label and a text, `label: text`, the texts below each other."""
    rows = list(rows)
    width = max(len(label) for label, _ in rows) + 2
    return [f"{label + ':':<{width}}{text}" for label, text in rows]


def plain_markdown(text: str) -> str:
    """Text that a file may have chosen, as Markdown that shows it and means nothing else.

    Args:
      text: any text.

    Returns:
      One line without what ends a table's cell, emphasises, links or opens HTML.
    """
    text = one_line(text)
    return re.sub(
        r"(?<![^\W_])_|_(?![^\W_])|[^\w .,=+/():@%-]", lambda found: f"&#{ord(found[0])};", text
    )
