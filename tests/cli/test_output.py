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
