"""Each layer against the real tf.compat.v1.layers: equal, not close."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from support.oracle import run_layer

from alexnet_tf1 import layers, norms

OURS = {
    "conv2d": lambda x, t: layers.conv2d(x, 7, 3, activation=tf.nn.relu, name="conv"),
    "dense": lambda x, t: layers.dense(x, 11, name="fc"),
    "max_pooling2d": lambda x, t: layers.max_pooling2d(x, 2, 2, name="pool"),
    "flatten": lambda x, t: layers.flatten(x, name="flatten"),
    "batch_normalization": lambda x, t: layers.batch_normalization(x, t, name="bn"),
}


@pytest.mark.parametrize("name", OURS)
def test_layer_equals_the_real_one(name, given, oracle):
    weights = [given[key] for key in sorted(given) if key.startswith(f"layers/{name}/weights/")]
    found = run_layer(
        OURS[name], given[f"layers/{name}/inputs"], given[f"layers/{name}/cotangent"], weights
    )
    expected = {
        key.removeprefix(f"layers/{name}/"): value
        for key, value in oracle.items()
        if key.startswith(f"layers/{name}/")
    }
    assert found.keys() == expected.keys()
    for key, value in found.items():
        np.testing.assert_array_equal(value, expected[key], err_msg=key)


def test_batch_normalization_moves_its_averages_in_training_only(given, oracle):
    moved = oracle["layers/batch_normalization/value_True/bn/moving_mean"]
    assert np.abs(moved).min() > 0  # the comparison above compared something that moves
    assert (oracle["layers/batch_normalization/value_False/bn/moving_mean"] == moved).all()
    assert oracle["layers/batch_normalization/updates"] == 2


def test_batch_normal_normalises_with_the_batch_in_inference_too():
    run = batch_normal_run("batch")
    np.testing.assert_allclose(run["training"], normalised(run["inputs"]), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(run["inference"], run["training"])


def test_batch_normal_moves_its_unread_averages_on_every_pass():
    run = batch_normal_run("batch")
    once = 0.1 * run["inputs"].mean(0)  # from zero, decay 0.9
    np.testing.assert_allclose(run["mean_after_training"], once, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run["mean_after_inference"], 1.9 * once, rtol=1e-5, atol=1e-6)
    assert run["updates"] == 0


def test_ema_reads_debiased_averages_in_inference_and_writes_nothing():
    run = batch_normal_run("ema")
    np.testing.assert_allclose(run["training"], normalised(run["inputs"]), rtol=1e-5, atol=1e-5)
    # One update with the bias divided out gives the moments of that one batch.
    mean, variance = run["inputs"].mean(0), run["inputs"].var(0)
    np.testing.assert_allclose(run["mean_after_training"], mean, rtol=1e-5, atol=1e-6)
    expected = (run["inputs"] - mean) / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(run["inference"], expected, rtol=1e-4, atol=1e-5)
    alone = (run["inputs"][:1] - mean) / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(run["alone"], alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(run["mean_after_inference"], run["mean_after_training"])
    assert run["updates"] == 1


def test_batch_normal_alone_is_constant_in_the_original():
    run = batch_normal_run("batch")
    np.testing.assert_array_equal(run["alone"], np.zeros_like(run["alone"]))


@pytest.mark.parametrize("statistics", ["batch", "ema"])
def test_batch_normal_takes_images(statistics):
    inputs = np.random.RandomState(1).normal(2, 3, [4, 5, 5, 3]).astype(np.float32)
    run = batch_normal_run(statistics, inputs)
    np.testing.assert_allclose(run["training"], normalised(inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: layers.conv2d(x, 3, 3, name="conv9"),
        lambda x: layers.dense(x, 3, name="conv9"),
        lambda x: layers.batch_normalization(x, False, name="conv9"),
        lambda x: layers.batch_normal(x, False, name="conv9"),
    ],
)
def test_unknown_channels_are_refused_by_name(build):
    message = r"conv9: the last dimension .* is not known"
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        build(tf.placeholder(tf.float32, [None, 4, 4, None]))


@pytest.mark.parametrize("is_training", [False, True])
def test_a_python_switch_builds_one_branch(is_training, given):
    inputs = given["layers/batch_normalization/inputs"]
    outputs = []
    for switch in (is_training, None):
        with tf.Graph().as_default() as graph, tf.Session() as session:
            pred = tf.constant(is_training) if switch is None else switch
            y = layers.batch_normalization(tf.constant(inputs), pred, name="bn")
            y = layers.batch_normal(y, pred, statistics="ema", name="bn2")
            session.run(tf.global_variables_initializer())
            outputs.append(session.run(y))
            conditions = [op for op in graph.get_operations() if op.type in ("If", "StatelessIf")]
            assert bool(conditions) == (switch is None)
    np.testing.assert_array_equal(*outputs)


def batch_normal_run(statistics, inputs=None):
    """One training step, one inference, and inference on the first row alone."""
    if inputs is None:
        inputs = np.random.RandomState(0).normal(3, 2, [16, 5]).astype(np.float32)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, *inputs.shape[1:]])
        is_training = tf.placeholder(tf.bool, [])
        y = layers.batch_normal(x, is_training, statistics=statistics, name="bn")
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        mean = norms.recorded(graph)[0].moving_mean
        session.run(tf.global_variables_initializer())
        run = {"inputs": inputs, "updates": len(updates)}
        run["training"], _ = session.run([y, updates], {x: inputs, is_training: True})
        run["mean_after_training"] = session.run(mean)
        run["inference"] = session.run(y, {x: inputs, is_training: False})
        run["mean_after_inference"] = session.run(mean)
        run["alone"] = session.run(y, {x: inputs[:1], is_training: False})
    return run


def normalised(x):
    axes = tuple(range(x.ndim - 1))
    return (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-3)
