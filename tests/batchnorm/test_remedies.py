"""Remedies, followed as they are written: the averages move, and the audit finds no fault."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from corpus.cases import dense, inputs, loss_of, minimize, moments_norm, moving, stored, switch
from corpus.frozen import stored_norm
from corpus.single import network
from support import legacy_keras

from alexnet_tf1.batchnorm.audit import audit_graph


def norm(x: tf.Tensor, name: str) -> tf.Tensor:
    """A layer whose updates nobody collects."""
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        kept = stored(int(x.shape[-1]))
        mean, variance = tf.nn.moments(x, [0])
        for variable, value in ((kept.mean, mean), (kept.variance, variance)):
            moving(variable, value)
        training = tf.get_default_graph().get_tensor_by_name("is_training:0")
        used = tf.cond(
            training,
            lambda: (tf.identity(mean), tf.identity(variance)),
            lambda: (tf.identity(kept.mean), tf.identity(kept.variance)),
        )
        return tf.nn.batch_normalization(x, *used, kept.beta, kept.gamma, 1e-3)


def moved(session: Any, run: Any, feed: dict[Any, Any]) -> list[bool]:
    """Runs it once; which averages are others afterwards."""
    averages = [v for v in tf.global_variables() if "moving_" in v.op.name]
    before = session.run(averages)
    session.run(run, feed)
    return [bool((a != b).any()) for a, b in zip(before, session.run(averages), strict=True)]


@pytest.mark.parametrize("second_is_trained", [True, False])
def test_a_layer_called_on_two_inputs(second_is_trained: bool) -> None:
    """Only updates that can run with what training feeds are named, one for each average."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        images, labels = inputs()
        others = tf.placeholder(tf.float32, [None, 48], name="others")
        switch()
        second = dense(norm(dense(others, 5, "fc1"), "bn"), 10, "fc2")
        first = dense(norm(dense(images, 5, "fc1"), "bn"), 10, "fc2")
        loss = loss_of(labels, first)
        if second_is_trained:
            loss += tf.reduce_mean(second**2)
        train = minimize(loss)
        session.run(tf.global_variables_initializer())
        (fault,) = audit_graph(graph, train_ops=[train]).faults
        assert fault.rule == "BN101"
        named = re.search(
            r"build it under tf\.control_dependencies on (\S+) and (\S+)[;\s]", fault.message
        )
        assert named, fault.message
        updates = [graph.get_operation_by_name(name.rstrip(";")) for name in named.groups()]
        assert {op.inputs[0].op.name for op in updates} == {"bn/moving_mean", "bn/moving_variance"}
        feed = {images: np.ones([4, 4, 4, 3]), labels: [1, 2, 3, 4], "is_training:0": True}
        if second_is_trained:
            feed[others] = np.ones([4, 48])
        assert not any(moved(session, train, feed))
        with tf.control_dependencies(updates):
            mended = minimize(loss, [])
        session.run(tf.variables_initializer(tf.global_variables()))
        assert all(moved(session, mended, feed))
    assert audit_graph(graph, train_ops=[mended]).faults == []


def test_updates_of_another_input_only() -> None:
    """None of them can run: the remedy is to call the layer, not to depend on what raises."""
    with tf.Graph().as_default() as graph:
        images, labels = inputs()
        training = switch()
        others = tf.placeholder(tf.float32, [None, 48], name="others")
        norm(dense(others, 5, "fc1"), "bn")
        x = moments_norm(dense(images, 5, "fc1"), training, "bn", update="none")
        train = minimize(loss_of(labels, dense(x, 10, "fc2")))
    (fault,) = audit_graph(graph, train_ops=[train]).faults
    assert fault.rule == "BN101"
    assert "belong to a call of the layer on inputs that training does not have" in fault.message


def test_training_forgotten() -> None:
    """`training=` and UPDATE_OPS together mend it; either alone does not."""
    for given, before, rule in ((False, None, "BN103"), (True, [], "BN101"), (True, None, None)):
        with tf.Graph().as_default() as graph, tf.Session() as session:
            net = network(moments_norm if given else stored_norm, switch(), before)
            session.run(tf.global_variables_initializer())
            feed = {"images:0": np.random.rand(4, 4, 4, 3), "labels:0": [1, 2, 3, 4]}
            averages = moved(session, net.train_ops, {**feed, "is_training:0": True})
            assert all(averages) if rule is None else not any(averages)
        found = audit_graph(graph).faults
        assert {fault.rule for fault in found} == ({rule} if rule else set())
        if rule == "BN103":
            assert "pass training=is_training" in found[0].message
            assert "tf.get_collection(tf.GraphKeys.UPDATE_OPS)" in found[0].message


@pytest.mark.parametrize(
    ("name", "said", "remedy"),
    [
        ("conv/BatchNorm", "`is_training=` is False", "pass is_training=is_training, True in"),
        ("batch_normalization_1", "`training=` was forgotten", "pass training=is_training, True"),
        ("mine", "`training=` was forgotten", "training=is_training (is_training= in slim), True"),
    ],
)
def test_the_argument_is_that_of_the_library(name: str, said: str, remedy: str) -> None:
    with tf.Graph().as_default() as graph:
        images, labels = inputs()
        x = stored_norm(dense(images, 5, "fc1"), None, name)
        minimize(loss_of(labels, dense(x, 10, "fc2")))
    (fault,) = audit_graph(graph).faults
    assert said in fault.message
    assert remedy in fault.message


def test_a_keras_model_called_on_another_tensor(tmp_path: Path) -> None:
    """Its layers have updates for keras.Input as well, which raise when they are run."""
    script = tmp_path / "program.py"
    script.write_text(KERAS)
    legacy_keras.run(script)


KERAS = """
import re
import numpy as np
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from alexnet_tf1 import audit_graph
tf.disable_v2_behavior()
keras = tf2.keras
x = tf.placeholder(tf.float32, [None, 6])
model = keras.Sequential(
    [keras.layers.Dense(4, input_shape=(6,)), keras.layers.BatchNormalization(name="bn"),
     keras.layers.Dense(3)]
)
logits = model(x, training=True)
loss = tf.reduce_mean(tf.square(logits))
train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
graph = tf.get_default_graph()
found = audit_graph(graph, train_ops=[train], logits=logits).faults
(message,) = [f.message + " " for f in found if f.rule == "BN101"]
names = re.search(r"tf.control_dependencies on (\\S+) and (\\S+?)[; ]", message).groups()
with tf.control_dependencies([graph.get_operation_by_name(name) for name in names]):
    mended = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    session.run(mended, {x: np.random.rand(8, 6) + 3})
    mean, variance = session.run([v for v in tf.global_variables() if "moving" in v.name])
    assert (mean != 0).all() and (variance != 1).all()
found = audit_graph(graph, train_ops=[mended], logits=logits).faults
assert "BN101" not in [f.rule for f in found], found
"""
