"""The model of a live session: its statistics estimated, its gap measured, its averages set."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import alexnet_tf1
from alexnet_tf1 import layers
from alexnet_tf1.errors import UserError

RANDOM = np.random.RandomState(0)
# Batches of six differ in mean and variance.
EXAMPLES = np.concatenate([RANDOM.normal(n % 4, 1 + n % 3, [6, 3]) for n in range(12)])


@pytest.fixture
def two_layers():
    """A session with x -> norm a -> relu -> norm b."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        is_training = tf.placeholder(tf.bool, [])
        y = layers.batch_normal(x, is_training, statistics="ema", name="a")
        y = layers.batch_normal(tf.nn.relu(y), is_training, statistics="ema", name="b")
        session.run(tf.global_variables_initializer())
        graph.finalize()
        yield session, x, is_training, y


def normalise(x, mean, variance):
    return (x - mean) / np.sqrt(variance + 1e-3)


@pytest.mark.parametrize("batch_size", [6, 5, 100])  # of 72: the last of 5 is short
def test_the_averages_become_the_population_s_statistics_under_inference(two_layers, batch_size):
    session, x, is_training, y = two_layers
    found = alexnet_tf1.recalibrate_session(
        session, {x: EXAMPLES}, logits=y, is_training=is_training, batch_size=batch_size
    )
    assert [layer["name"] for layer in found["layers"]] == ["a", "b"]
    inner = np.maximum(normalise(EXAMPLES, EXAMPLES.mean(0), EXAMPLES.var(0)), 0)
    for name, inputs in (("a", EXAMPLES), ("b", inner)):
        averages = (
            f"{name}/moments/{s}/ExponentialMovingAverage" for s in ("Squeeze", "Squeeze_1")
        )
        mean, variance = session.run([f"{average}/Read/ReadVariableOp:0" for average in averages])
        np.testing.assert_allclose(mean, inputs.mean(0), rtol=1e-4)
        np.testing.assert_allclose(variance, inputs.var(0), rtol=1e-4)
    outputs = session.run(y, {x: EXAMPLES, is_training: False})
    expected = normalise(inner, inner.mean(0), inner.var(0))
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)


def test_a_gap_is_measured_in_a_copy_and_closed_in_the_session(two_layers):
    session, x, is_training, y = two_layers
    variables = session.graph.get_collection("variables")
    before = session.run(variables)
    found = alexnet_tf1.measure_gap(session, {x: EXAMPLES}, logits=y, is_training=is_training)
    assert found["gap_points"] is None
    assert all(layer["mean_distance"] > 0.3 for layer in found["layers"])
    cells = {(c["mode"], c["batch_size"]): c["distance"] for c in found["cells"]}
    assert cells["inference", 20] > 0.3
    assert cells["precise", 1] < 1e-4
    for old, new in zip(before, session.run(variables), strict=True):
        np.testing.assert_array_equal(old, new)
    alexnet_tf1.recalibrate_session(session, {x: EXAMPLES}, logits=y, is_training=is_training)
    found = alexnet_tf1.measure_gap(session, {x: EXAMPLES}, logits=y, is_training=is_training)
    assert all(layer["mean_distance"] < 1e-3 for layer in found["layers"])
    cells = {(c["mode"], c["batch_size"]): c["distance"] for c in found["cells"]}
    assert cells["inference", 20] < 1e-3


def test_batches_may_come_one_after_the_other(two_layers):
    session, x, is_training, y = two_layers
    batches = ({x: EXAMPLES[n : n + 12]} for n in range(0, 72, 12))
    found = alexnet_tf1.recalibrate_session(session, batches, logits=y, is_training=is_training)
    assert found["examples"] == 72
    endless = ({x: EXAMPLES[:12]} for _ in iter(int, 1))
    found = alexnet_tf1.recalibrate_session(session, endless, logits=y, examples=30)
    assert found["examples"] == 30


def test_a_session_without_averages_is_refused():
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 3])
        mean, variance = tf.nn.moments(x, [0])
        y = tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3)
        with pytest.raises(UserError, match="no moving averages to set"):
            alexnet_tf1.recalibrate_session(session, {x: EXAMPLES}, logits=y)
