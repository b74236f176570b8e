"""The sentences and tables that the commands print of what they found."""

import pytest

from alexnet_tf1.cli import output

DIAGNOSIS = {
    "checkpoint": "runs/a/checkpoints/model.ckpt-1",
    "dataset": {"name": "cifar10"},
    "images": 2_000,
    "batch_size": 20,
    "gap_points": 7.0,
    "layers": [
        {
            "name": "batch_normalization_1",
            "lag": 1.0,
            "mean_distance": 0.25,
            "variance_distance": 9.5,
        }
    ],
    "cells": [
        {"mode": mode, "order": order, "batch_size": size, "accuracy": 1.0}
        for mode in ("precise", "inference", "batch statistics")
        for order in ("stored", "sorted")
        for size in (1, 2, 5, 7, 20, 100, 1_000)
    ],
    "repeatable": True,
    "changed_variables": [],
    "verdict": [],
}


def test_the_tables_of_a_diagnosis_fit_80_columns_and_their_headings_say_what_is_below():
    lines = output.diagnosis(DIAGNOSIS).splitlines()
    assert max(map(len, lines)) <= 80
    first, second, row = lines[
        lines.index("how far the moving averages are from the population's statistics") + 1 :
    ][:3]
    for above, below, figure in (
        ("mean off by", "(std. dev.)", "0.250"),
        ("variance off", "by (factor)", "9.500"),
        ("share of the initial value", "still in the average", "100.0%"),
    ):
        end = second.index(below) + len(below)
        assert first[:end].endswith(above)
        assert row[:end].endswith(figure)


@pytest.mark.parametrize(
    ("repeatable", "changed", "sentence"),
    [
        (True, [], "testing twice gives the same answers and changes no variable"),
        (True, list("abcd"), "testing twice gives the same answers but changes 4 variables"),
        (False, ["a"], "testing twice gives DIFFERENT answers and changes 1 variable"),
    ],
)
def test_what_testing_twice_showed_is_a_sentence(repeatable, changed, sentence):
    found = {**DIAGNOSIS, "repeatable": repeatable, "changed_variables": changed}
    assert sentence in output.diagnosis(found).splitlines()


def model(key, read, **more):
    """A diagnosis of anybody's model; `read` has by mode a reading as stored and one sorted."""
    cells = [
        {"mode": mode, "order": order, "batch_size": 1, "accuracy": None, "distance": 0.0}
        | {key: reading}
        for mode, readings in read.items()
        for order, reading in zip(("stored", "sorted"), readings, strict=True)
    ]
    return {
        "model": "ckpt/model-7",
        "checkpoint": "ckpt/model-7",
        "examples": 300,
        "batch_size": 1,
        "logits": "fc/BiasAdd:0",
        "is_training": ["is_training:0"],
        "layers": [
            {"name": "a/rather/long/name/of/a/layer", "mean_distance": 0.5, "variance_distance": 2},
            {"name": "bn", "mean_distance": None, "variance_distance": None},
        ],
        "faults": [],
        "notes": ["the logits were found"],
        "cells": cells,
        "gap_points": 12.5,
        "repeatable": True,
        "changed_variables": [],
        "verdict": ["In order: all is."],
        **more,
    }


RIGHT = {"precise": (0.76, 0.76), "inference": (0.625, 0.5), "batch statistics": (0.75, 0.25)}


def test_the_text_of_a_model_with_labels():
    assert (
        output.diagnosis(model("accuracy", RIGHT))
        == """\
ckpt/model-7, 300 examples; output fc/BiasAdd:0, training switch is_training:0

accuracy (%) by examples tested together
statistics        order         1
batch statistics  stored    75.00
batch statistics  sorted    25.00
inference         stored    62.50
inference         sorted    50.00
precise           stored    76.00
precise           sorted    76.00

how far the moving averages are from the population's statistics
                                mean off by  variance off
layer                           (std. dev.)   by (factor)
a/rather/long/name/of/a/layer         0.500         2.000
bn                                      keeps no averages

gap: +12.50 points (batch statistics minus inference, batches of 1)
testing twice gives the same answers and changes no variable

note: the logits were found
In order: all is."""
    )


@pytest.mark.parametrize("moved", [True, False])
def test_without_labels_the_text_says_how_far_outputs_lie_apart_and_move(moved):
    distances = {
        "batch statistics": (0.3, 0.0),
        "inference": (0.125, 1e300 if moved else 0.125),
        "precise": (0.0, 0.0),
    }
    lines = output.diagnosis(model("distance", distances, gap_points=None)).splitlines()
    assert lines[2].startswith("how far the outputs lie from those with precise statistics")
    assert "inference         stored    0.125" in lines
    assert ("inference         sorted     > 99" in lines) == moved
    assert (
        "modes: in inference the outputs lie 0.12 of their spread away from those with precise "
        "statistics, with batch statistics 0.30 (batches of 1)"
    ) in lines
    end = "is from 0.12 to 1.0e+300" if moved else "they hardly move what inference gives"
    assert lines[-5].endswith(end)
    assert "%" not in "".join(lines)


@pytest.mark.parametrize("targets", [("new", None), (None, "served"), ("new", "served")])
def test_the_text_of_a_recalibrated_model_names_what_was_written(targets):
    found = model("accuracy", RIGHT) | dict(
        zip(("checkpoint", "saved_model"), targets, strict=True)
    )
    text = output.model_recalibration(found)
    assert text.startswith("ckpt/model-7: statistics from 300 examples")
    assert "a/rather/long/name/of/a/layer         0.500" in text
    assert "note: the logits were found" in text
    assert ("written to new; all other variables unchanged" in text) == ("new" in targets)
    assert ("written to served, a SavedModel" in text) == ("served" in targets)
