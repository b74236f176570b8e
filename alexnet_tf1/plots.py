"""Pictures from the logged metrics; no display needed, no global matplotlib state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

# Okabe & Ito's palette: told apart by colour-blind readers and in grey print.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"


def curves(metrics: list[dict[str, Any]], result: dict[str, Any], path: Path) -> None:
    """Draws loss and accuracies against steps.

    Args:
      metrics: the records of metrics.jsonl.
      result: the run's result.json; its final accuracies are marked at the last step.
      path: of the PNG file, 1600 x 640 pixels.
    """
    figure = Figure(figsize=(10, 4), dpi=160, layout="constrained")
    left, right = figure.subplots(1, 2)
    data = result["dataset"]
    name = data["name"] if data["verified"] else f"{data['name']}, not the published files"
    figure.suptitle(f"Training on {name}")

    train = [record for record in metrics if "loss" in record]
    steps = [record["step"] for record in train]
    left.plot(steps, [record["loss"] for record in train], color=BLUE, marker=".")
    left.set(xlabel="step", ylabel="training loss of one batch (nats)", ylim=(0, None))

    percent = [100 * record["accuracy"] for record in train]
    right.plot(steps, percent, color=GREY, marker=".", lw=0.8, label="training, one batch")
    tests = [record for record in metrics if "test_accuracy" in record]
    right.plot(
        [record["step"] for record in tests],
        [100 * record["test_accuracy"] for record in tests],
        color=ORANGE,
        marker="o",
        label="test, inference, first images",
    )
    for key, colour, marker, label in (
        ("batch_statistics_accuracy_full", GREEN, "^", "test, batch statistics, all images"),
        ("test_accuracy_full", ORANGE, "*", "test, inference, all images"),
    ):
        if result[key] is not None:
            value = 100 * result[key]
            right.plot(
                result["steps"], value, marker, color=colour, ms=11, label=f"{label}: {value:.2f}%"
            )
    right.set(xlabel="step", ylabel="accuracy (%)", ylim=(0, 100))
    right.legend(loc="lower right", fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path)


_MODES = {  # mode: colour, marker
    "batch statistics": (GREEN, "^"),
    "inference": (ORANGE, "o"),
    "precise": (BLUE, "s"),
}


def diagnosis(found: dict[str, Any], path: Path) -> None:
    """Draws accuracy against test batch size, a line per mode and order.

    Args:
      found: what diagnose.json holds.
      path: of the PNG file, 1280 x 800 pixels.
    """
    figure = Figure(figsize=(8, 5), dpi=160, layout="constrained")
    axes = figure.subplots()
    for mode, (colour, marker) in _MODES.items():
        for order, style, fill in (("stored", "-", colour), ("sorted", "--", "white")):
            cells = [c for c in found["cells"] if (c["mode"], c["order"]) == (mode, order)]
            axes.plot(
                [cell["batch_size"] for cell in cells],
                [100 * cell["accuracy"] for cell in cells],
                style,
                marker=marker,
                color=colour,
                markerfacecolor=fill,
                label=f"{mode}, {'as stored' if order == 'stored' else 'sorted by class'}",
            )
    axes.axhline(10, color=GREY, lw=0.8, ls=":", label="chance")
    sizes = sorted({cell["batch_size"] for cell in found["cells"]})
    axes.set_xscale("log")
    axes.set_xticks(sizes, labels=[f"{size:,}" for size in sizes], minor=False)
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axes.set(xlabel="images tested together", ylabel="accuracy (%)", ylim=(0, 100))
    data = found["dataset"]
    name = data["name"] if data["verified"] else f"{data['name']} (not the published files)"
    axes.set_title(
        f"{found['images']:,} test images of {name}; in order, inference lies on precise", size=11
    )
    axes.legend(loc="upper left", fontsize=8, ncols=2)
    axes.grid(alpha=0.3)
    figure.savefig(path)
