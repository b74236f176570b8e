"""Diagnosis, verdict and repair on the embedded data, and their parts on made-up classifiers."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from alexnet_tf1 import layers, norms
from alexnet_tf1.batchnorm import measure as measuring
from alexnet_tf1.batchnorm.model.verdict import verdict
from alexnet_tf1.batchnorm.recalibrate import Recalibration

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


def test_a_sweep_finds_no_difference_in_a_model_in_order():
    right = np.arange(10) % 5 > 0
    cells = measuring.sweep({"inference": lambda rows: right[rows]}, LABELS)
    assert {cell.accuracy for cell in cells} == {0.8}
    assert {cell.batch_size for cell in cells} == {1, 2, 5, 10}  # 20 and more: all ten
    assert {cell.order for cell in cells} == {"stored", "sorted"}


def test_a_sweep_finds_a_model_that_looks_at_the_rest_of_the_batch():
    def classify(rows):  # right only where the batch holds more than one class
        return np.full(len(rows), len(set(LABELS[rows])) > 1)

    cells = measuring.sweep({"inference": classify}, LABELS, [1, 2, 5])
    assert measuring.accuracy_at(cells, "inference", 1, "stored") == 0
    assert measuring.accuracy_at(cells, "inference", 2, "stored") == 1
    assert measuring.accuracy_at(cells, "inference", 2, "sorted") == 0.2
    with pytest.raises(KeyError):
        measuring.accuracy_at(cells, "inference", 7, "stored")


@pytest.mark.parametrize("batch_size", [1, 3, 10, 99])
def test_every_row_is_classified_once(batch_size):
    seen = []
    measuring.classify_all(lambda rows: seen.extend(rows) or rows > 0, np.arange(10), batch_size)
    assert seen == list(range(10))


@pytest.mark.parametrize("writes", [False, True])
def test_side_effects_are_found(writes):
    with tf.Graph().as_default(), tf.Session() as session:
        quiet, counter = (tf.get_variable(n, [], initializer=tf.ones_initializer()) for n in "ab")
        count = tf.assign_add(counter, 1.0) if writes else tf.identity(counter)
        session.run(tf.global_variables_initializer())

        def classify(rows):
            return np.full(len(rows), session.run(count) % 2 == 0)

        effects = measuring.side_effects(session, [quiet, counter], classify, np.arange(1), 1)
    assert effects == measuring.SideEffects(not writes, ["b"] if writes else [])


def test_distance_is_in_standard_deviations_and_ratios():
    mean, variance = np.array([1.0, 2.0, 3.0]), np.array([4.0, 4.0, 4.0])
    assert measuring.distance(mean, variance, mean, variance, 0) == (0, 1)
    assert measuring.distance(mean - 1, variance / 2, mean, variance, 0) == (0.5, 2)
    assert measuring.distance(mean + 1, variance * 2, mean, variance, 0) == (0.5, 2)


@pytest.fixture
def two_layers():
    """x -> norm a -> relu -> norm b, with data whose batches differ in mean."""
    random = np.random.RandomState(0)
    batches = [random.normal(n % 4, 1 + n % 3, [6, 3]).astype(np.float32) for n in range(12)]
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 3])
        is_training = tf.placeholder(tf.bool, [])
        y = layers.batch_normal(x, is_training, statistics="ema", name="a")
        y = layers.batch_normal(tf.nn.relu(y), is_training, statistics="ema", name="b")
        repair = Recalibration(norms.recorded(graph))
        session.run(tf.global_variables_initializer())
        yield session, x, is_training, y, repair, batches


def normalise(x, mean, variance):
    return (x - mean) / np.sqrt(variance + 1e-3)


def test_layer_by_layer_gives_the_population_s_statistics_under_inference(two_layers):
    session, x, is_training, y, repair, batches = two_layers
    found = repair.layer_by_layer(session, lambda: ({x: b, is_training: False} for b in batches))
    everything = np.concatenate(batches)
    np.testing.assert_allclose(found["a"].mean, everything.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["a"].variance, everything.var(0), rtol=1e-5)
    inner = np.maximum(normalise(everything, everything.mean(0), everything.var(0)), 0)
    np.testing.assert_allclose(found["b"].mean, inner.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found["b"].variance, inner.var(0), rtol=1e-4)
    outputs = session.run(y, {x: everything, is_training: False})
    expected = normalise(inner, inner.mean(0), inner.var(0))
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)


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
