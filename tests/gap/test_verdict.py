"""The verdict on made-up diagnoses."""

import pytest

from alexnet_tf1.batchnorm.model.verdict import verdict


def found(accuracies, faults=(), distances=(0.0, 1.0), changed=()):
    """A diagnosis of one layer: accuracy by (mode, size, order)."""
    return {
        "run": "runs/a",
        "batch_size": 20,
        "cells": [
            {"mode": mode, "batch_size": size, "order": order, "accuracy": accuracy}
            for (mode, size, order), accuracy in accuracies.items()
        ],
        "faults": [{"rule": rule, "layer": "bn", "message": ""} for rule in faults],
        "layers": [
            {
                "name": "bn",
                "lag": 0.5,
                "mean_distance": distances[0],
                "variance_distance": distances[1],
            }
        ],
        "changed_variables": list(changed),
        "repeatable": True,
    }


ACCURACIES = {
    ("inference", 20, "stored"): 0.5,
    ("inference", 20, "sorted"): 0.2,
    ("inference", 1, "stored"): 0.1,
    ("batch statistics", 20, "stored"): 0.7,
    ("precise", 20, "stored"): 0.71,
}


@pytest.mark.parametrize(
    ("diagnosis", "parts"),
    [
        (found(ACCURACIES), ["In order: 50.0%"]),
        (
            found(ACCURACIES, ["BN101"], (2.0, 3.0)),
            ["never updated the moving averages of bn", "70.0%", "71.0%", "recalibrate runs/a"],
        ),
        (found(ACCURACIES, ["BN101"]), ["recalibrated", "--update-ops control"]),
        (found(ACCURACIES, [], (2.0, 1.0)), ["updated but far", "50% of their initial values"]),
        (found(ACCURACIES, ["BN201"]), ["with the test batch", "20.0%", "10.0%", "ema"]),
        (found(ACCURACIES, changed=["bn/mean"]), ["Evaluating changed bn/mean"]),
    ],
)
def test_the_verdict_names_layer_and_remedy(diagnosis, parts):
    sentences = verdict(diagnosis)
    assert len(sentences) == 1
    for part in parts:
        assert part in sentences[0]
