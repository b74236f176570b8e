"""Graphs for the audit: each right one with its sabotaged twins.

A case is a function that builds a graph in the current default graph and returns what
audit_graph is to be told. `expects` holds the faults that must be found, as
"RULE layer", no more and no less.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops as framework_ops
from tensorflow.python.ops import control_flow_util

AUTO = "auto"  # leave it to the audit to find


class Net(NamedTuple):
    train_ops: Any
    logits: Any
    is_training: Any = None


class Case(NamedTuple):
    name: str
    build: Callable[[], Net]
    expects: list[str]
    layers: list[str] | None
    style: str
    alone: list[str]


CASES: list[Case] = []
STYLES = {
    "resource, v2": (True, True),
    "resource, v1": (True, False),
    "ref, v1": (False, False),
}


def case(
    name: str,
    *expects: str,
    layers: list[str] | None = None,
    styles: tuple[str, ...] = ("resource, v2",),
    alone: list[str] | None = None,
) -> Callable[[Callable[[], Net]], Callable[[], Net]]:
    """Registers a builder, once for each kind of variables and of control flow.

    `alone` are the faults where nothing is named, if they are others than `expects`.
    """
    found_alone = list(expects) if alone is None else alone

    def register(build: Callable[[], Net]) -> Callable[[], Net]:
        for style in styles:
            label = name if len(styles) == 1 else f"{name} ({style})"
            CASES.append(Case(label, build, list(expects), layers, style, found_alone))
        return build

    return register


ALL_STYLES = tuple(STYLES)


@contextlib.contextmanager
def style_of(style: str) -> Iterator[None]:
    """Switches variables and control flow to a generation, and back."""
    resource, v2 = STYLES[style]
    before = control_flow_util.ENABLE_CONTROL_FLOW_V2
    was_resource = tf.resource_variables_enabled()
    try:
        control_flow_util.ENABLE_CONTROL_FLOW_V2 = v2
        (tf.enable_resource_variables if resource else tf.disable_resource_variables)()
        yield
    finally:
        control_flow_util.ENABLE_CONTROL_FLOW_V2 = before
        (tf.enable_resource_variables if was_resource else tf.disable_resource_variables)()


def built(entry: Case) -> tuple[tf.Graph, Net]:
    """The case's graph and what to tell the audit about it."""
    graph = tf.Graph()
    with style_of(entry.style), graph.as_default(), framework_ops.name_scope(None):
        tf.set_random_seed(0)  # who runs it finds the same each time
        net = entry.build()
    return graph, net


# ---- pieces of networks --------------------------------------------------------------------


def inputs(shape: tuple[int, ...] = (4, 4, 3)) -> tuple[tf.Tensor, tf.Tensor]:
    images = tf.placeholder(tf.float32, [None, *shape], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    return images, labels


def switch() -> tf.Tensor:
    return tf.placeholder(tf.bool, [], name="is_training")


def dense(x: tf.Tensor, units: int, name: str) -> tf.Tensor:
    x = tf.reshape(x, [-1, int(tf.TensorShape(x.shape[1:]).num_elements())])
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        kernel = tf.get_variable("kernel", [int(x.shape[1]), units])
        bias = tf.get_variable("bias", [units], initializer=tf.zeros_initializer())
    return tf.nn.bias_add(tf.matmul(x, kernel), bias, name=f"{name}/logits")


def conv(x: tf.Tensor, filters: int, name: str) -> tf.Tensor:
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        kernel = tf.get_variable("kernel", [3, 3, int(x.shape[-1]), filters])
    return tf.nn.conv2d(x, kernel, strides=[1, 1, 1, 1], padding="SAME")


def loss_of(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )


def minimize(loss: tf.Tensor, before: Any = None, **kwargs: Any) -> tf.Operation:
    """An optimiser's step, after the UPDATE_OPS collection unless told otherwise.

    Adam's slots are in corpus.programs, in the real layers' graphs and in the project's network;
    in every graph they would be a fifth of its operations.
    """
    if before is None:
        before = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    with tf.control_dependencies(before):
        return tf.train.GradientDescentOptimizer(1e-3).minimize(loss, **kwargs)


class Stored(NamedTuple):
    mean: Any
    variance: Any
    gamma: Any
    beta: Any


def stored(channels: int, names: tuple[str, str] = ("moving_mean", "moving_variance")) -> Stored:
    def get(name: str, initial: float, trainable: bool) -> Any:
        return tf.get_variable(
            name, [channels], initializer=tf.constant_initializer(initial), trainable=trainable
        )

    return Stored(
        get(names[0], 0.0, False),
        get(names[1], 1.0, False),
        get("gamma", 1.0, True),
        get("beta", 0.0, True),
    )


def moving(variable: Any, value: tf.Tensor, momentum: Any = 0.9) -> Any:
    """assign_moving_average as tf.layers writes it."""
    return tf.assign_sub(variable, (variable - value) * (1.0 - momentum))


def axes_of(x: tf.Tensor) -> list[int]:
    return list(range(len(x.shape) - 1))


def moments_norm(x: tf.Tensor, training: Any, name: str, update: str = "collection") -> tf.Tensor:
    """Unfused batch norm; `update` says what becomes of the update ops."""
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        kept = stored(int(x.shape[-1]))
        mean, variance = tf.nn.moments(x, axes_of(x), name="moments")

        def updates() -> list[Any]:
            return [
                tf.identity(moving(kept.mean, mean)),
                tf.identity(moving(kept.variance, variance)),
            ]

        def still() -> list[Any]:
            return [tf.identity(kept.mean), tf.identity(kept.variance)]

        wait: list[Any] = []
        if update == "always":
            for op in (moving(kept.mean, mean), moving(kept.variance, variance)):
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, op)
        elif update != "none":
            branches = (still, updates) if update.startswith("wrong") else (updates, still)
            done = tf.cond(training, *branches)
            if update in ("inline", "wrong branch inline"):
                wait = list(done)
            else:
                for op in done:
                    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, op)
        with tf.control_dependencies(wait):
            used = tf.cond(
                training,
                lambda: (tf.identity(mean), tf.identity(variance)),
                lambda: (tf.identity(kept.mean), tf.identity(kept.variance)),
            )
        return tf.nn.batch_normalization(x, used[0], used[1], kept.beta, kept.gamma, 1e-3)


def fused_norm(x: tf.Tensor, training: Any, name: str, momentum: Any = None) -> tf.Tensor:
    """Fused batch norm as tf.layers builds it for a tensor `training`."""
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        kept = stored(int(x.shape[-1]))

        def train() -> Any:
            return tf.nn.fused_batch_norm(x, kept.gamma, kept.beta, epsilon=1e-3)[:3]

        def infer() -> Any:
            return tf.nn.fused_batch_norm(
                x, kept.gamma, kept.beta, kept.mean, kept.variance, 1e-3, is_training=False
            )[:3]

        y, mean, variance = tf.cond(training, train, infer)
        if momentum is None:
            momentum = tf.cond(training, lambda: tf.constant(0.99), lambda: tf.constant(1.0))
        for variable, value in ((kept.mean, mean), (kept.variance, variance)):
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, moving(variable, value, momentum))
        return y


def ema_norm(x: tf.Tensor, training: Any, name: str, form: str = "cond") -> tf.Tensor:
    """Hand-written: an ExponentialMovingAverage of the moments."""
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        size = int(x.shape[-1])
        beta = tf.get_variable("beta", [size], initializer=tf.zeros_initializer())
        gamma = tf.get_variable("gamma", [size], initializer=tf.ones_initializer())
        mean, variance = tf.nn.moments(x, axes_of(x), name="moments")
        ema = tf.train.ExponentialMovingAverage(0.9, zero_debias=form == "debiased")

        def update() -> Any:
            with tf.control_dependencies([ema.apply([mean, variance])]):
                return tf.identity(mean), tf.identity(variance)

        if form == "original":
            mean, variance = update()
        elif form in ("cond", "debiased"):
            done = ema.apply([mean, variance]) if form == "debiased" else None
            if done is not None:
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, done)
            mean, variance = tf.cond(
                training,
                update if done is None else lambda: (tf.identity(mean), tf.identity(variance)),
                lambda: (tf.identity(ema.average(mean)), tf.identity(ema.average(variance))),
            )
        elif form == "outside cond":  # the update runs in inference too
            done = ema.apply([mean, variance])
            with tf.control_dependencies([done]):
                mean, variance = tf.cond(
                    training,
                    lambda: (tf.identity(mean), tf.identity(variance)),
                    lambda: (tf.identity(ema.average(mean)), tf.identity(ema.average(variance))),
                )
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)
