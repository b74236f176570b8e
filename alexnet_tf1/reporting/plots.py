"""Draws the pictures of one run, curves.png and diagnose.png.

It needs no display and leaves matplotlib's global state alone. Lines that differ in colour differ
in marker or style as well, for grey print.
"""

import io
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from alexnet_tf1 import files
from alexnet_tf1.batchnorm.model.verdict import far_apart
from alexnet_tf1.reporting.text import one_line

# From Okabe and Ito's palette, whose colours colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
DPI: Final = 160


def save(figure: Figure, path: Path, software: str = "alexnet-tf1") -> None:
    """Writes a figure as a PNG file that names its writer, whole or not at all (UserError)."""
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": software})
    files.write_bytes(path, image.getvalue())


def name_of(data: dict[str, Any]) -> str:
    """Names a data set for a title; `data` as in result.json."""
    original = data["verified"] or data["name"] == "synthetic"
    return str(data["name"]) if original else f"{data['name']}, not the published files"


def over_steps(axes: Axes) -> None:
    """Makes the x-axis count steps."""
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(alpha=0.3)


def points(
    metrics: list[dict[str, Any]], key: str, scale: float = 1.0
) -> tuple[list[int], list[float]]:
    """Lists steps and values of the records that have `key`; values are multiplied by `scale`."""
    records = [record for record in metrics if key in record]
    return [r["step"] for r in records], [scale * r[key] for r in records]


_ACCURACIES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("accuracy", "training, one batch", {"color": GREY, "marker": ".", "lw": 0.8}),
    (
        "batch_statistics_accuracy",
        "test, batch statistics, first images",
        {"color": GREEN, "marker": "^", "ls": "--", "ms": 5},
    ),
    ("test_accuracy", "test, inference, first images", {"color": ORANGE, "marker": "o", "ms": 5}),
)


def curves(metrics: list[dict[str, Any]], result: dict[str, Any], path: Path) -> None:
    """Draws loss and accuracies against steps, and the gap that is left at the end.

    Args:
      metrics: the records of metrics.jsonl; test records may have batch_statistics_accuracy.
      result: the run's result.json; its final accuracies are marked at the last step.
      path: of the PNG file, 1600 x 800 pixels.
    """
    figure = Figure(figsize=(10, 5), dpi=DPI, layout="constrained")
    parts: dict[str, Axes] = figure.subplot_mosaic(
        [["loss", "accuracy"], ["legend", "legend"]], height_ratios=[9, 1]
    )
    left, right, below = parts["loss"], parts["accuracy"], parts["legend"]
    figure.suptitle(f"Training on {name_of(result['dataset'])}")

    left.plot(*points(metrics, "loss"), color=BLUE, marker=".")
    over_steps(left)
    left.set(ylabel="training loss of one batch (nats)", xlim=(0, None), ylim=(0, None))

    for key, label, style in _ACCURACIES:
        if any(key in record for record in metrics):
            right.plot(*points(metrics, key, 100), label=label, **style)
    _mark_final(right, result)
    over_steps(right)
    right.set(ylabel="accuracy (%)", xlim=(0, None), ylim=(0, 100))
    # Below the axes: inside, it hid the final inference accuracy of a run with a large gap.
    below.axis("off")
    below.legend(*right.get_legend_handles_labels(), loc="center", fontsize=8, ncols=3)
    save(figure, path)


def _mark_final(axes: Axes, result: dict[str, Any]) -> None:
    """Marks the accuracies over all test images, and the gap between them."""
    ends = []
    rim: dict[str, Any] = {"mec": "black", "mew": 0.6, "clip_on": False, "zorder": 3}
    for key, mode, colour, marker, size in (
        ("batch_statistics_accuracy_full", "batch statistics", GREEN, "^", 11),
        ("test_accuracy_full", "inference", ORANGE, "*", 14),
    ):
        if result[key] is not None:
            ends.append(100 * result[key])
            label = f"test, {mode}, all images: {ends[-1]:.2f}%"
            axes.plot(result["steps"], ends[-1], marker, color=colour, ms=size, label=label, **rim)
    if len(ends) == 2:
        axes.vlines(result["steps"], ends[1], ends[0], color="black", lw=1.5)
        # Above the axes: inside, any place may have a curve.
        axes.set_title(f"gap at the end: {ends[0] - ends[1]:+.2f} points", fontsize=10)


_MODES = {"batch statistics": (GREEN, "^"), "inference": (ORANGE, "o"), "precise": (BLUE, "s")}


# Distances outside of these are drawn at the edge: a distance of 0 has no place on a logarithmic
# axis, and beyond it no more is to be seen.
NEAREST, FARTHEST = 1e-3, 1e2


def diagnosis(found: dict[str, Any], path: Path) -> None:
    """Draws accuracy, or without labels distance, against test batch size.

    A line per mode and order.

    Args:
      found: the content of diagnose.json.
      path: of the PNG file, 1280 x 896 pixels.
    """
    figure = Figure(figsize=(8, 5.6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    labelled = all(cell["accuracy"] is not None for cell in found["cells"])
    alike = "sorted by class" if labelled else "sorted by output"
    for mode, (colour, marker) in _MODES.items():
        for order, style, fill in (("stored", "-", colour), ("sorted", "--", "white")):
            cells = [c for c in found["cells"] if (c["mode"], c["order"]) == (mode, order)]
            axes.plot(
                [cell["batch_size"] for cell in cells],
                [_height(cell, labelled) for cell in cells],
                style,
                marker=marker,
                color=colour,
                markerfacecolor=fill,
                label=f"{mode}, {'as stored' if order == 'stored' else alike}",
                clip_on=False,
            )
    if labelled:
        axes.set(ylabel="accuracy (%)", ylim=(0, 100))
    else:
        _over_distances(axes)
        far = far_apart(found["examples"])
        axes.axhline(far, color=GREY, lw=1, ls=":", label="far apart")
    sizes = sorted({cell["batch_size"] for cell in found["cells"]})
    axes.set_xscale("log")
    axes.set_xticks(sizes, labels=[f"{size:,}" for size in sizes], minor=False)
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    if "model" in found:
        title = f"{found['examples']:,} examples of {_end_of(found['model'])}"
        axes.set(xlabel="examples tested together")
    else:
        title = f"{found['images']:,} test images of {name_of(found['dataset'])}"
        axes.set(xlabel="images tested together")
        axes.axhline(10, color=GREY, lw=1, ls=":", label="chance")
    healthy = "lies on the blue one" if labelled else "lies below the dotted one"
    axes.set_title(f"{title}\nhealthy: the orange line {healthy}", size=11)
    columns = (len(axes.get_legend_handles_labels()[1]) + 1) // 2
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.11), fontsize=8, ncols=columns)
    axes.grid(alpha=0.3)
    save(figure, path)


def _end_of(path: str) -> str:
    """Shortens a path from its beginning, whose end tells models apart, to 60 characters."""
    text = one_line(path)
    return text if len(text) <= 60 else f"...{text[-57:]}"


def _height(cell: dict[str, Any], labelled: bool) -> float:
    """Returns the place of a cell on the y-axis."""
    if labelled:
        return 100 * float(cell["accuracy"])
    return min(max(float(cell["distance"]), NEAREST), FARTHEST)


def _over_distances(axes: Axes) -> None:
    """Makes the y-axis show distances."""
    axes.set_yscale("log")
    axes.set(
        ylabel="distance from the outputs with precise statistics\n(1: as far as examples differ)",
        ylim=(NEAREST, FARTHEST),
    )
    heights = [NEAREST, 1e-2, 1e-1, 1, 10, FARTHEST]
    axes.set_yticks(heights, labels=["≤ 0.001", "0.01", "0.1", "1", "10", "≥ 100"])
