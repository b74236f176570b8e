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
        {"mode": "batch statistics", "order": "stored", "batch_size": size, "accuracy": 1.0}
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


def model(*cells, **more):
    """A diagnosis of anybody's model: cells of mode, order, accuracy, distance, one at a time."""
    keys = ("mode", "order", "accuracy", "distance")
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
        "cells": [{"batch_size": 1, **dict(zip(keys, cell, strict=True))} for cell in cells],
        "gap_points": 12.5,
        "repeatable": True,
        "changed_variables": [],
        "verdict": ["In order: all is."],
        **more,
    }


def test_the_text_of_a_model_with_labels():
    found = model(
        ("batch statistics", "stored", 0.75, 0.3),
        ("inference", "stored", 0.625, 0.1),
        ("precise", "stored", 0.76, 0.0),
    )
    assert (
        output.diagnosis(found)
        == """\
ckpt/model-7, 300 examples; output fc/BiasAdd:0, training switch is_training:0

accuracy (%) by examples tested together
statistics        order         1
batch statistics  stored    75.00
inference         stored    62.50
precise           stored    76.00

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


def test_the_text_of_a_model_without_labels_says_how_far_outputs_lie_apart_and_move():
    found = model(
        ("batch statistics", "stored", None, 0.3),
        ("inference", "stored", None, 0.125),
        ("inference", "sorted", None, 1e300),
        ("precise", "stored", None, 0.0),
        ("precise", "sorted", None, 0.0),
        ("batch statistics", "sorted", None, 0.0),
        gap_points=None,
    )
    lines = output.diagnosis(found).splitlines()
    assert lines[2].startswith("how far the outputs lie from those with precise statistics")
    assert "inference         stored    0.125" in lines
    assert "inference         sorted     > 99" in lines
    assert (
        "modes: in inference the outputs lie 0.12 of their spread away from those with precise "
        "statistics, with batch statistics 0.30 (batches of 1)"
    ) in lines
    assert lines[-5].endswith("that distance in inference is from 0.12 to 1.0e+300")
    assert "%" not in "".join(lines)


@pytest.mark.parametrize("targets", [("new", None), (None, "served"), ("new", "served")])
def test_the_text_of_a_recalibrated_model_names_what_was_written(targets):
    found = model() | dict(zip(("checkpoint", "saved_model"), targets, strict=True))
    text = output.model_recalibration(found)
    assert text.startswith("ckpt/model-7: statistics from 300 examples")
    assert "a/rather/long/name/of/a/layer         0.500" in text
    assert "note: the logits were found" in text
    assert ("written to new; all other variables unchanged" in text) == ("new" in targets)
    assert ("written to served, a SavedModel" in text) == ("served" in targets)
