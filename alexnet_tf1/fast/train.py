"""The loop with many training steps in one session call: a while loop in the graph."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1 import alexnet
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.batches import SCALED, Batches
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.ops import Tensor, normalise_with_moments
from alexnet_tf1.session import open_session
from alexnet_tf1.train import Hooks

CALL_SECONDS = 0.5  # that a session call may take: it bounds how long a signal waits


class ManyStepsHooks(Hooks, Protocol):
    """The hooks of a loop that takes many steps in a call."""

    def steps_until_due(self, step: int) -> int:
        """Returns how many steps may follow `step` before something else is due."""

    def after_steps(self, step: int, losses: Sequence[float], accuracies: Sequence[float]) -> None:
        """Takes what `after_step` takes, of every step of a call; `step` is the last of them."""


class Loop(NamedTuple):
    """The training loop inside the graph."""

    pixels: Tensor  # uint8 placeholder [K, N, 3072], the images of each of K steps
    labels: Tensor  # int64 placeholder [K, N]
    losses: Tensor  # float32 [K], of each step before its update, in nats
    accuracies: Tensor  # float64 [K], of each step's batch
    train_op: Tensor  # trains the K steps


def train(config: TrainConfig, data: Dataset, hooks: ManyStepsHooks) -> Any:
    """Trains as `alexnet_tf1.train.train` does, as many steps in a call as fit into half a second.

    How many that are changes no bit of the results. Returns what `hooks.end` returns.
    """
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(config.seed)
        net = alexnet.build_for_testing(
            config.fc_batch_norm, label_smoothing=config.label_smoothing, ops=hooks.ops
        )
        loop = build_loop(config, hooks)
        hooks.build(net._replace(train_op=loop.train_op))
        graph.finalize()
        with open_session(fast=True) as session:
            step = hooks.begin(session)
            batches = Batches(data.train, config.seed, hooks.augmentation)
            batches.skip(step, config.batch_size)
            most = 1
            while step < config.steps and not hooks.should_stop:
                steps = min(most, hooks.steps_until_due(step))
                started = time.perf_counter()
                taken = [batches.next_pixels(config.batch_size) for _ in range(steps)]
                pixels, labels = (np.stack(column) for column in zip(*taken, strict=True))
                losses, accuracies = session.run(
                    [loop.losses, loop.accuracies], {loop.pixels: pixels, loop.labels: labels}
                )
                most = steps_for_a_call(most, (time.perf_counter() - started) / steps)
                step += steps
                hooks.after_steps(step, losses, accuracies)
            return hooks.end(step)


def steps_for_a_call(last: int, seconds_a_step: float) -> int:
    """Returns how many steps the next call may take, at least 1.

    At most twice as many as `last`: the first calls are slow for other reasons than their steps.
    """
    return max(1, min(2 * last, int(CALL_SECONDS / seconds_a_step)))


def build_loop(config: TrainConfig, hooks: Hooks, *, compiled: bool = False) -> Loop:
    """Builds the loop over the variables of a network in the current graph.

    The body is the network once more, on the same variables, always in training; `config` is the
    one that it was built for, and the hooks have the optimizer and the ops. Where `compiled`, XLA
    makes one program of a step, and normalises in plain ops: TensorFlow 2.21 merges the fused op
    with the ReLU after it, which on a GPU hands the gradient 1 / sqrt(variance + epsilon) where
    XLA's gradient expects the variance (docs/performance.md, "On a GPU").
    """
    ops = hooks.ops
    if compiled:
        ops = ops._replace(normalise_with_batch=normalise_with_moments)
    pixels = tf.placeholder(tf.uint8, [None, None, 3072], name="pixels")
    labels = tf.placeholder(tf.int64, [None, None], name="answers")

    def train_step(pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        # The body's graph begins with a copy of the collections; the updates of the network
        # outside are not its own.
        tf.get_default_graph().clear_collection(tf.GraphKeys.UPDATE_OPS)
        images = tf.gather(SCALED, tf.cast(pixels, tf.int32))
        with tf.variable_scope(tf.get_variable_scope(), reuse=True):
            logits = alexnet.inference(
                tf.reshape(images, [-1, 3072]), True, config.fc_batch_norm, ops
            )
        loss = alexnet.cross_entropy(labels, logits, config.label_smoothing)
        hits = tf.cast(tf.equal(tf.argmax(logits, 1), labels), tf.float64)
        with tf.control_dependencies([alexnet.minimize(loss, config.update_ops, hooks.optimizer)]):
            return tf.identity(loss), tf.reduce_mean(hits)

    step_of = tf.function(train_step, jit_compile=True) if compiled else train_step

    def take(step: Tensor) -> tuple[Tensor, ...]:
        loss, accuracy = step_of(pixels[step], labels[step])
        return loss.op, loss, accuracy

    train_op, losses, accuracies = repeat(take, tf.shape(pixels)[0], (tf.float32, tf.float64))
    return Loop(pixels, labels, losses, accuracies, train_op)


def repeat(
    take: Callable[[Tensor], Sequence[Tensor]], steps: Tensor, dtypes: Sequence[Any]
) -> tuple[Tensor, ...]:
    """Builds a while loop of training steps in the current graph, each after the one before.

    Args:
      take: builds a step, given its number, int32 []: returns its training op and what it gives.
      steps: how many, int32 [].
      dtypes: of what a step gives.

    Returns:
      The op that trains all steps; then what the steps gave, stacked, [steps, ...] each.
    """

    def body(step: Tensor, *columns: Any) -> tuple[Tensor, ...]:
        train_op, *given = take(step)
        # All that goes into the next step waits for this one's update.
        with tf.control_dependencies([train_op]):
            pairs = zip(columns, given, strict=True)
            return (step + 1, *(column.write(step, tf.identity(value)) for column, value in pairs))

    _, *columns = tf.while_loop(
        lambda step, *_: step < steps,
        body,
        (0, *(tf.TensorArray(dtype, steps) for dtype in dtypes)),
        parallel_iterations=1,
        name="steps",
    )
    train_op = tf.group(columns[0].flow, name="train_op")
    tf.add_to_collection(tf.GraphKeys.TRAIN_OP, train_op)
    return (train_op, *(column.stack() for column in columns))
