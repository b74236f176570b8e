"""What curves.png and diagnose.png show, read from the figures before they are written."""

from __future__ import annotations

import pytest
from PIL import Image

from alexnet_tf1.errors import UserError
from alexnet_tf1.reporting import plots

RESULT = {
    "dataset": {"name": "cifar10", "verified": False},
    "steps": 20,
    "test_accuracy_full": 0.14,
    "batch_statistics_accuracy_full": 0.59,
}
METRICS = [
    {"step": 10, "loss": 1.5, "accuracy": 0.4},
    {"step": 20, "loss": 1.25, "accuracy": 0.6},
    {"step": 20, "test_accuracy": 0.2},
]
CELLS = [
    {"mode": mode, "order": order, "batch_size": size, "accuracy": 0.5}
    for mode in ("batch statistics", "inference", "precise")
    for order in ("stored", "sorted")
    for size in (1, 20)
]


@pytest.fixture
def drawn(monkeypatch):
    """The figures in place of their files."""
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    return figures


def lines(figure):
    """Of each labelled line of the accuracies: the points."""
    return {
        line.get_label(): [round(float(x), 9) for x in line.get_xydata()[-1]]
        for line in figure.axes[1].lines
    }


def test_a_failed_gap_is_seen(drawn):
    plots.curves(METRICS, RESULT, None)
    (figure,) = drawn
    accuracies = figure.axes[1]
    assert accuracies.get_title() == "gap at the end: +45.00 points"
    (bar,) = accuracies.collections
    assert bar.get_segments()[0].round(9).tolist() == [[20, 14], [20, 59]]
    found = lines(figure)
    assert found["test, inference, all images: 14.00%"] == [20, 14]
    assert found["test, batch statistics, all images: 59.00%"] == [20, 59]
    assert accuracies.get_legend() is None  # it lay on the lower end of the bar
    assert figure.get_suptitle() == "Training on cifar10, not the published files"
    assert accuracies.get_xlabel() == "step"
    assert figure.axes[0].get_ylabel() == "training loss of one batch (nats)"


@pytest.mark.parametrize("tested", [True, False])
def test_tests_with_batch_statistics_are_drawn_where_there_are_any(tested, drawn):
    more = [{"step": 20, "test_accuracy": 0.2, "batch_statistics_accuracy": 0.55}] * tested
    plots.curves([*METRICS[:2], *more], RESULT, None)
    found = lines(drawn[0])
    assert found.get("test, batch statistics, first images") == ([20, 55] if tested else None)


def test_the_steps_of_a_run_of_one_line_can_be_read(drawn):
    plots.curves([{"step": 3, "loss": 1.5, "accuracy": 0.4}], {**RESULT, "steps": 3}, None)
    (figure,) = drawn
    for axes in figure.axes[:2]:
        low, high = axes.get_xlim()
        shown = [axes.xaxis.get_major_formatter()(x) for x in axes.get_xticks() if low <= x <= high]
        assert len(set(shown)) == len(shown) > 1


def test_a_run_that_was_stopped_has_no_gap(drawn, tmp_path):
    untested = {"test_accuracy_full": None, "batch_statistics_accuracy_full": None}
    plots.curves([], {**RESULT, **untested}, None)
    assert drawn[0].axes[1].get_title() == ""
    assert len(drawn[0].axes[1].lines) == 0


def test_the_pictures_of_a_run_are_told_apart_without_colour(drawn):
    plots.curves([*METRICS, {"step": 20, "batch_statistics_accuracy": 0.5}], RESULT, None)
    plots.diagnosis({"dataset": RESULT["dataset"], "images": 20, "cells": CELLS}, None)
    for axes in (drawn[0].axes[1], drawn[1].axes[0]):
        looks = [
            (line.get_marker(), line.get_linestyle(), line.get_markerfacecolor() == "white")
            for line in axes.lines
        ]
        assert len(set(looks)) == len(looks) > 4


def test_the_title_of_a_diagnosis_says_how_a_healthy_one_looks(drawn):
    plots.diagnosis({"dataset": RESULT["dataset"], "images": 20, "cells": CELLS}, None)
    (axes,) = drawn[0].axes
    assert axes.get_title().splitlines()[1] == "healthy: the orange line lies on the blue one"
    colours = {line.get_label(): line.get_color() for line in axes.lines}
    assert colours["inference, as stored"] == plots.ORANGE
    assert colours["precise, as stored"] == plots.BLUE


def test_distances_are_drawn_where_there_are_no_labels(drawn):
    heights = {"precise": 0.0, "inference": 0.5, "batch statistics": 1e300}
    cells = [{**cell, "accuracy": None, "distance": heights[cell["mode"]]} for cell in CELLS]
    plots.diagnosis({"model": "m" * 90, "examples": 900, "cells": cells}, None)
    (axes,) = drawn[0].axes
    shown = {line.get_label(): line.get_ydata()[-1] for line in axes.lines}
    low, high = axes.get_ylim()
    assert shown["precise, as stored"] == low > 0
    assert shown["inference, sorted by output"] == 0.5
    assert shown["batch statistics, as stored"] == high
    assert shown["far apart"] == 0.1
    assert axes.get_ylabel().startswith("distance from the outputs with precise statistics")
    assert axes.get_xlabel() == "examples tested together"
    assert axes.get_title().startswith("900 examples of ...mmm")


def test_a_foreign_model_s_accuracies_have_no_known_chance(drawn):
    plots.diagnosis({"model": "m", "examples": 20, "cells": CELLS}, None)
    assert drawn[0].axes[0].get_ylabel() == "accuracy (%)"
    assert "chance" not in [line.get_label() for line in drawn[0].axes[0].lines]


def test_files_are_whole_or_not_at_all(tmp_path):
    plots.curves(METRICS, RESULT, tmp_path / "curves.png")
    plots.diagnosis(
        {"dataset": RESULT["dataset"], "images": 20, "cells": CELLS}, tmp_path / "diagnose.png"
    )
    for name, size in (("curves.png", (1600, 800)), ("diagnose.png", (1280, 896))):
        with Image.open(tmp_path / name) as image:
            image.load()
            assert image.size == size
    with pytest.raises(UserError, match="cannot be written"):
        plots.curves(METRICS, RESULT, tmp_path / "gone/curves.png")
    assert len(list(tmp_path.iterdir())) == 2
