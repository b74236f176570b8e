"""The Markdown table of `compare` (no TensorFlow)."""

from typing import Any

from alexnet_tf1.config import option
from alexnet_tf1.reporting.text import plain_markdown

NOT_COMPARABLE = "These runs saw different data sets: their figures are not comparable."
UNKNOWN = "–"  # noqa: RUF001


def comparison_table(found: dict[str, Any], width: int | None = None) -> str:
    """Formats runs as Markdown: heading, warning if there is cause, table; a run a row.

    Args:
      found: from compare.
      width: most characters of a line; a wider table becomes several, each with the runs' names.
        None for one table, however wide.
    """
    rows, comparable = found["runs"], found["comparable"]
    count = f"{len(rows)} run{'s' * (len(rows) != 1)}"
    lines = [f"# {count} on {rows[0]['dataset'] if comparable else 'different data sets'}", ""]
    lines += ["Accuracies are of all test images; the loss is the last training batch's.", ""]
    if not comparable:
        lines += [NOT_COMPARABLE, ""]
    cells = [_cells(row, comparable) for row in rows]
    widths = {head: max(len(head), *(len(row[head]) for row in cells)) for head in cells[0]}
    rule = {head: "-" * size for head, size in widths.items()}
    tables = [
        "\n".join(
            f"| {' | '.join(row[head].ljust(widths[head]) for head in heads)} |"
            for row in ({head: head for head in widths}, rule, *cells)
        )
        for heads in _split(widths, width)
    ]
    return "\n".join([*lines, "\n\n".join(tables)])


def _split(widths: dict[str, int], most: int | None) -> list[list[str]]:
    """Divides the columns after the first among tables of at most `most` characters a line."""
    first, *others = widths
    tables = [[first]]
    for head in others:
        line = sum(widths[other] + 3 for other in (*tables[-1], head)) + 1
        if most is not None and line > most and tables[-1] != [first]:
            tables.append([first])
        tables[-1].append(head)
    return tables


def _cells(row: dict[str, Any], comparable: bool) -> dict[str, str]:
    """Formats what is known of a run, by the heading of its column."""

    def figure(key: str, form: str, scale: float = 1.0) -> str:
        return UNKNOWN if row[key] is None else form.format(scale * row[key])

    def result(key: str, form: str, scale: float = 1.0) -> str:
        """Adds its data set's name to a figure if there are several."""
        text = figure(key, form, scale)
        return text if comparable or text == UNKNOWN else f"{text} {row['dataset']}"

    since = row["resumed_after_step"]
    return {
        "run": plain_markdown(row["label"]),
        **{option(name): str(setting) for name, setting in row["settings"].items()},
        "steps": _steps(row),
        "loss (nats)": result("final_loss", "{:.4f}"),
        "inference (%)": result("test_accuracy_full", "{:.2f}", 100),
        "batch statistics (%)": result("batch_statistics_accuracy_full", "{:.2f}", 100),
        "gap (points)": result("gap_points", "{:+.2f}"),
        "time (s)": figure("wall_s", "{:,.0f}") + (f" since step {since:,}" if since else ""),
        "steps/s": figure("steps_per_s", "{:.1f}"),
        "memory (MB)": figure("peak_rss_mb", "{:,.0f}"),
        "device": plain_markdown(row["device"]) if row["device"] else UNKNOWN,
    }


def _steps(row: dict[str, Any]) -> str:
    steps, wanted = row["steps"], row["of_steps"]
    if row["finished"]:
        return f"{steps:,}"
    return f"{steps:,} of {wanted:,}" if steps < wanted else f"{steps:,}, untested"
