"""Draws the picture of `compare`: the curves and final accuracies of several runs."""

import math
import warnings
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from alexnet_tf1.reporting import compare_table, plots
from alexnet_tf1.reporting import text as report

# Okabe and Ito's palette without yellow, which is hard to see on white. The numbers of colours,
# lines and markers (7, 4, 9) have no common divisor: 252 runs differ in at least one of the three.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#56B4E9", "#E69F00")
LINES: Final = ("-", "--", "-.", ":")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
LONGEST: Final = 22  # characters of a label
COLUMNS: Final = 3  # of the legend
_Dicts = list[dict[str, Any]]


def draw(found: dict[str, Any], metrics: list[_Dicts], path: Path, software: str) -> None:
    """Draws losses and accuracies against steps, and the final accuracies of each run.

    Args:
      found: the result of compare.compare.
      metrics: the records of metrics.jsonl of each run, in the same order.
      path: of the PNG file, 1600 pixels wide, as high as the sum of `heights`.
      software: program noted in the file as its writer.

    Raises:
      UserError: if the file cannot be written.
    """
    rows = found["runs"]
    names = [_name(row, found["comparable"]) for row in rows]
    styles = [_style(number, len(rows)) for number in range(len(rows))]
    upper, lower, legend = heights(len(rows), found["comparable"])
    figure = Figure(figsize=(10, upper + lower + legend), dpi=plots.DPI, layout="constrained")
    parts: dict[str, Axes] = figure.subplot_mosaic(
        [["loss", "training"], ["test", "final"], ["legend", "legend"]],
        height_ratios=[upper, lower, legend],
    )
    figure.suptitle(
        f"Training on {rows[0]['dataset']}" if found["comparable"] else compare_table.NOT_COMPARABLE
    )
    for logged, style in zip(metrics, styles, strict=True):
        parts["loss"].plot(*plots.points(logged, "loss"), **style)
        parts["training"].plot(*plots.points(logged, "accuracy", 100), **style)
    _draw_tests(parts["test"], rows, metrics, styles)
    _draw_final(parts["final"], rows, names, styles)
    parts["loss"].set(ylabel="training loss of one batch (nats)", ylim=(0, None))
    parts["training"].set(ylabel="training accuracy, one batch (%)", ylim=(0, 100))
    for part in ("training", "test"):
        parts[part].sharex(parts["loss"])
    for part in ("loss", "training", "test"):
        plots.over_steps(parts[part])
    _draw_legend(parts["legend"], names, styles)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a name in a script that the font lacks
        plots.save(figure, path, software)


def heights(count: int, comparable: bool) -> tuple[float, float, float]:
    """Chooses the heights of the upper two plots, the lower two and the legend, in inches."""
    lines = 1 if comparable else 2  # of a label: the second names the data set
    return (
        3.2,
        max(3.2, 0.9 + (0.12 + 0.12 * lines) * count),
        0.3 + (0.07 + 0.13 * lines) * math.ceil(count / COLUMNS),
    )


def _style(number: int, count: int) -> dict[str, Any]:
    # Runs of one seed that differ only in inference have equal losses: later lines are thinner.
    thicker = 1 - number / max(count - 1, 1)
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": LINES[number % len(LINES)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 3.5 + 3 * thicker,
        "linewidth": 1.2 + 2 * thicker,
    }


def _name(row: dict[str, Any], comparable: bool) -> str:
    """Shortens a run's label for the picture, and adds its data set if they differ."""
    label = report.one_line(row["label"])
    if len(label) > LONGEST:
        label = f"{label[: LONGEST // 2 - 1]}…{label[-LONGEST // 2 :]}"
    return label if comparable else f"{label}\n{row['dataset']}"


def _draw_tests(axes: Axes, rows: _Dicts, metrics: list[_Dicts], styles: _Dicts) -> None:
    """Draws the accuracies of the [Test] lines, and at the end the one over all images."""
    for row, logged, style in zip(rows, metrics, styles, strict=True):
        axes.plot(*plots.points(logged, "test_accuracy", 100), **style)
        if row["test_accuracy_full"] is not None:
            final = {**style, "linestyle": "", "markersize": 7, "markeredgecolor": "black"}
            axes.plot(row["steps"], 100 * row["test_accuracy_full"], clip_on=False, **final)
        steps, percent = plots.points(logged, "batch_statistics_accuracy", 100)
        axes.plot(steps, percent, **{**style, "linewidth": 0.6, "markerfacecolor": "white"})
    axes.set(ylabel="test accuracy, inference (%)\nblack rim: all images", ylim=(0, 100))
    if not any(len(line.get_xdata()) for line in axes.lines):  # type: ignore[arg-type]
        axes.text(0.5, 0.5, "no test yet", transform=axes.transAxes, ha="center")


def _draw_final(axes: Axes, rows: _Dicts, names: list[str], styles: _Dicts) -> None:
    """Draws a bar for each run, from its final accuracy in inference to batch statistics."""
    for place, (row, style) in enumerate(zip(rows, styles, strict=True)):
        fractions = row["test_accuracy_full"], row["batch_statistics_accuracy_full"]
        if None in fractions:
            axes.text(2, place, "not tested yet", va="center", fontsize=7)
            continue
        ends = [100 * fraction for fraction in fractions]
        bar = {**style, "linestyle": "-", "markersize": 6, "clip_on": False}
        axes.plot(ends, [place, place], **{**bar, "marker": "", "linewidth": 2})
        axes.plot(ends[1], place, **{**bar, "markerfacecolor": "white", "markersize": 8})
        axes.plot(ends[0], place, **{**bar, "markersize": 5})
    axes.set(
        xlabel="test accuracy, all images (%)\nfilled: inference; hollow: batch statistics",
        xlim=(0, 100),
        ylim=(len(rows) - 0.4, -0.6),
    )
    axes.set_yticks(range(len(rows)), names, fontsize=7, parse_math=False)
    axes.grid(alpha=0.3)


def _draw_legend(axes: Axes, names: list[str], styles: _Dicts) -> None:
    axes.axis("off")
    # matplotlib drops labels that begin with "_" and reads "$" as mathematics, so the texts are
    # set afterwards.
    texts = axes.legend(
        [Line2D([], [], **style) for style in styles],
        [str(number) for number in range(len(names))],
        loc="upper center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=min(COLUMNS, len(names)),
        fontsize=8,
        handlelength=3.5,
        frameon=False,
    ).get_texts()
    for text, name in zip(texts, names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
