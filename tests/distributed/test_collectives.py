"""Two replicas on two devices of this process compute what one does with all images."""

import itertools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from alexnet_tf1 import layers
from alexnet_tf1.distributed.collectives import Replica, average_fused
from alexnet_tf1.ops import ORIGINAL
from alexnet_tf1.session import configuration

SHAPES = {"batch_normalization": [8, 5, 5, 6], "batch_normal": [8, 6]}
OFFSET = 1_000.0  # of the mean: where a mean of squares in float32 would lose its digits
TOLERANCE = 2e-3


def data(shape):
    random = np.random.RandomState(0)
    images = random.normal(0, 1, shape)
    # The halves differ, as those of a batch do: normalising each by itself is something else.
    images[: len(images) // 2] += 2
    return (OFFSET + images).astype(np.float32), random.normal(size=shape).astype(np.float32)


def run(layer, replicas, synchronised=True, **options):
    """Outputs, gradients of the inputs and of scale and shift, and averages after one update."""
    images, cotangent = data(SHAPES[layer])
    with tf.Graph().as_default(), tf.device("/device:CPU:0"):
        inputs = tf.constant(images)
        variables, found = None, []
        for device, part in enumerate(np.split(np.arange(len(images)), replicas)):
            rows = slice(part[0], part[-1] + 1)
            replica = Replica(replicas)
            ops = ORIGINAL._replace(moves_averages=device == 0)
            if replicas > 1 and synchronised:
                ops = replica.synchronised(ops)
            with (
                tf.device(f"/device:CPU:{device}"),
                tf.variable_scope(tf.get_variable_scope(), reuse=device > 0),
            ):
                make = getattr(layers, layer)
                outputs = make(inputs[rows], True, ops=ops, name=layer, **options)
                loss = tf.reduce_mean(outputs * cotangent[rows])
                variables = variables or tf.trainable_variables()
                gradients = tf.gradients(loss, [inputs, *variables])
                if replicas > 1:
                    gradients, _ = average_fused(replica, gradients, tf.zeros([1]))
            found.append((outputs, *gradients))
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        averages = [v for v in tf.global_variables() if v not in tf.trainable_variables()]
        with tf.Session(config=configuration(2)) as session:
            session.run(tf.global_variables_initializer())
            parts, _ = session.run([found, updates])
            # Every replica has the same gradients; its outputs are its own.
            outputs = np.concatenate([part[0] for part in parts])
            for part in parts[1:]:
                for ours, first in zip(part[1:], parts[0][1:], strict=True):
                    np.testing.assert_array_equal(ours, first)
            return [outputs, *parts[0][1:], *session.run(averages)]


CASES = [
    ("batch_normalization", {"momentum": 0.01}),  # the averages are nearly the batch's moments
    ("batch_normal", {"statistics": "batch"}),
    ("batch_normal", {"statistics": "ema"}),
]


def worst(ours, theirs):
    """The largest difference, as a part of the largest value, of each array."""
    return [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, theirs, strict=True)]


@pytest.mark.parametrize(("layer", "options"), CASES)
def test_two_halves_are_normalised_as_the_whole(layer, options):
    whole = run(layer, 1, **options)
    assert max(worst(run(layer, 2, **options), whole)) < TOLERANCE
    apart = worst(run(layer, 2, synchronised=False, **options), whole)
    assert min(apart[0], apart[1]) > 0.1  # outputs, and gradients of the inputs


def test_the_gradient_goes_through_the_moments(monkeypatch):
    """A twin whose all-reduce passes each replica its own part only is found."""
    whole = run("batch_normal", 1)
    monkeypatch.setattr(Replica, "mean", lambda self, value: value + tf.stop_gradient(
        self.average(value) - value))  # fmt: skip
    broken = worst(run("batch_normal", 2), whole)
    assert broken[0] < TOLERANCE
    assert broken[1] > 0.01


def test_fused_average_and_order():
    """Many tensors of many shapes, through one vector, back where they were."""
    shapes = [[3, 2], [], [4], [1, 2, 2]]
    with tf.Graph().as_default() as graph:
        found = []
        for device in range(2):
            with tf.device(f"/device:CPU:{device}"):
                replica = Replica(2)
                count = itertools.count(10 * device)
                tensors = [tf.fill(shape, float(next(count))) for shape in shapes]
                found.append(average_fused(replica, tensors, tf.constant([1.0 + device, 5.0])))
        reductions = [op for op in graph.get_operations() if op.type == "CollectiveReduceV2"]
        assert len(reductions) == 2
        with tf.Session(config=configuration(2)) as session:
            for averages, more in session.run(found):
                for number, (value, shape) in enumerate(zip(averages, shapes, strict=True)):
                    np.testing.assert_array_equal(value, np.full(shape, 5.0 + number))
                np.testing.assert_array_equal(more, [1.5, 5])
