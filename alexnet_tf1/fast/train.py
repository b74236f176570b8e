"""Many training steps in one session call: the loop in the graph."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow.compat.v1 as tf

from alexnet_tf1.alexnet import AlexNet, inference, minimize
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.batches import SCALED, Batches
from alexnet_tf1.evaluate import kernels_of
from alexnet_tf1.fast.kernels import Tensor
from alexnet_tf1.recipes.optimizer import Optimization


class FastLoop(NamedTuple):
    """The training loop inside the graph.

    Attributes:
      pixels: uint8 placeholder [K, N, 3072], the images of each of K steps.
      labels: int64 placeholder [K, N].
      losses: float32 [K], of each step before its update, in nats.
      accuracies: float64 [K], of each step's batch.
      train_op: the op that trains the K steps.
    """

    pixels: Tensor
    labels: Tensor
    losses: Tensor
    accuracies: Tensor
    train_op: Tensor


class FastSteps:
    """Takes training steps, as many in a session call as fit into half a second.

    How many that are changes no bit of the results; it bounds how long a signal waits.

    Attributes:
      most: how many steps the next call may take.
    """

    SECONDS = 0.5

    def __init__(self, session: Any, loop: FastLoop, batches: Batches, batch_size: int) -> None:
        self.most = 1
        self._session = session
        self._loop = loop
        self._batches = batches
        self._batch_size = batch_size

    def take(self, steps: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """Trains `steps` steps; returns the loss (nats) and accuracy of each, [steps]."""
        started = time.perf_counter()
        taken = [self._batches.next_pixels(self._batch_size) for _ in range(steps)]
        pixels, labels = (np.stack(column) for column in zip(*taken, strict=True))
        losses, accuracies = self._session.run(
            [self._loop.losses, self._loop.accuracies],
            {self._loop.pixels: pixels, self._loop.labels: labels},
        )
        each = (time.perf_counter() - started) / steps
        # At most twice as many as the last time: the first calls are slow for other reasons.
        self.most = max(1, min(2 * self.most, int(self.SECONDS / each)))
        return losses, accuracies


def build_loop(net: AlexNet, config: TrainConfig) -> FastLoop:
    """Builds the loop over the variables of a network in the current graph.

    The body is the network once more, on the same variables, always in training. Steps are in
    order: each one's reads wait for the updates of the one before.

    Args:
      net: built for the same settings without a train_op; it serves for testing.
      config: the settings.

    Returns:
      The loop.
    """
    kernels, how = kernels_of(config), Optimization.of(config)
    pixels = tf.placeholder(tf.uint8, [None, None, 3072], name="pixels")
    labels = tf.placeholder(tf.int64, [None, None], name="answers")
    steps = tf.shape(pixels)[0]

    def body(step: Tensor, losses: Tensor, accuracies: Tensor) -> tuple[Tensor, ...]:
        # The body's graph begins with a copy of the collections; net's updates are not its own.
        tf.get_default_graph().clear_collection(tf.GraphKeys.UPDATE_OPS)
        images = tf.gather(SCALED, tf.cast(pixels[step], tf.int32))
        answers = labels[step]
        with tf.variable_scope(tf.get_variable_scope(), reuse=True):
            logits = inference(tf.reshape(images, [-1, 3072]), True, config.fc_batch_norm, kernels)
        loss = how.loss(answers, logits)
        hits = tf.cast(tf.equal(tf.argmax(logits, 1), answers), tf.float64)
        train_op = minimize(loss, net.global_step, config.update_ops, config.learning_rate, how)
        # All that goes into the next step waits for this one's update.
        with tf.control_dependencies([train_op]):
            return (
                step + 1,
                losses.write(step, tf.identity(loss)),
                accuracies.write(step, tf.reduce_mean(hits)),
            )

    _, losses, accuracies = tf.while_loop(
        lambda step, *_: step < steps,
        body,
        (0, tf.TensorArray(tf.float32, steps), tf.TensorArray(tf.float64, steps)),
        parallel_iterations=1,
        name="steps",
    )
    train_op = tf.group(losses.flow, name="train_op")
    tf.add_to_collection(tf.GraphKeys.TRAIN_OP, train_op)
    return FastLoop(
        pixels=pixels,
        labels=labels,
        losses=losses.stack(),
        accuracies=accuracies.stack(),
        train_op=train_op,
    )
