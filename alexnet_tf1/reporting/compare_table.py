"""The Markdown table of `compare` (no TensorFlow)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from alexnet_tf1.config import option
from alexnet_tf1.reporting.text import plain_markdown

NOT_COMPARABLE = "These runs saw different data sets: their figures are not comparable."
UNKNOWN = "–"  # noqa: RUF001


def comparison_table(found: dict[str, Any]) -> str:
    """Formats runs as Markdown: heading, warning if there is cause, table; `found` from compare."""
    rows = found["runs"]
    count = f"{len(rows)} run{'s' * (len(rows) != 1)}"
    if found["comparable"]:
        lines = [f"# {count} on {rows[0]['dataset']}", ""]
    else:
        lines = [f"# {count} on different data sets", "", NOT_COMPARABLE, ""]
    columns = _columns(found)
    cells = [[text(row) for _, text in columns] for row in rows]
    return "\n".join(lines + _table([head for head, _ in columns], cells))


def _columns(found: dict[str, Any]) -> list[tuple[str, Callable[[dict[str, Any]], str]]]:
    """Lists the columns: the heading, and the function that makes a run's cell."""
    return [
        ("run", lambda row: plain_markdown(row["label"])),
        *(
            (option(name), lambda row, name=name: str(row["settings"][name]))
            for name in found["differing"]
        ),
        ("steps", _steps),
        ("final loss (nats)", lambda row: _figure(found, row, "final_loss", "{:.4f}")),
        (
            "test accuracy, inference (%)",
            lambda row: _figure(found, row, "test_accuracy_full", "{:.2f}", 100),
        ),
        (
            "batch statistics (%)",
            lambda row: _figure(found, row, "batch_statistics_accuracy_full", "{:.2f}", 100),
        ),
        ("gap (points)", lambda row: _figure(found, row, "gap_points", "{:+.2f}")),
        ("wall time (s)", _wall_time),
        ("steps/s", lambda row: _cell(row["steps_per_s"], "{:.1f}")),
        ("peak memory (MB)", lambda row: _cell(row["peak_rss_mb"], "{:,.0f}")),
        ("device", lambda row: plain_markdown(row["device"]) if row["device"] else UNKNOWN),
    ]


def _figure(
    found: dict[str, Any], row: dict[str, Any], key: str, form: str, scale: float = 1.0
) -> str:
    """Formats a figure, followed by its data set's name if there are several."""
    text = _cell(row[key], form, scale)
    return text if found["comparable"] or text == UNKNOWN else f"{text} {row['dataset']}"


def _cell(value: float | None, form: str, scale: float = 1.0) -> str:
    return UNKNOWN if value is None else form.format(scale * value)


def _steps(row: dict[str, Any]) -> str:
    steps, wanted = row["steps"], row["of_steps"]
    if row["finished"]:
        return f"{steps:,}"
    return f"{steps:,} of {wanted:,}" if steps < wanted else f"{steps:,}, untested"


def _wall_time(row: dict[str, Any]) -> str:
    text = _cell(row["wall_s"], "{:,.0f}")
    since = row["resumed_after_step"]
    return f"{text} since step {since:,}" if since else text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Formats a Markdown table whose columns line up in plain text as well."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, rule, *rows)
    ]
