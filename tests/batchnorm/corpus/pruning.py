"""Corpus, part 5: updates built before a branch, which one branch waits for.

A session prunes before it runs, by the edges alone: whatever a branch waits for and was built
outside of it runs whichever branch is taken.
"""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from corpus.cases import (
    ALL_STYLES,
    Net,
    axes_of,
    case,
    dense,
    loss_of,
    minimize,
    moving,
    stored,
    switch,
)
from corpus.single import Norm, both, network


def _averaged(form: str, awaited_in: str = "training") -> Norm:
    """An ExponentialMovingAverage; `form` says what the branch waits for and where it is built."""

    def norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            beta = tf.get_variable("beta", [int(x.shape[-1])], initializer=tf.zeros_initializer())
            mean, variance = tf.nn.moments(x, axes_of(x), name="moments")
            average = tf.train.ExponentialMovingAverage(0.5)
            before = None if form == "inside" else average.apply([mean, variance])

            def batch() -> list[tf.Tensor]:
                return [tf.identity(mean), tf.identity(variance)]

            def kept() -> list[tf.Tensor]:
                return [tf.identity(average.average(v)) for v in (mean, variance)]

            def wait(then: Any) -> Any:
                with tf.control_dependencies([before or average.apply([mean, variance])]):
                    return then()

            if form == "a cond of the update alone":
                done = tf.cond(training, lambda: before, tf.no_op)
                with tf.control_dependencies([done]):
                    used = tf.cond(training, batch, kept)
            elif form == "inside" or awaited_in == "training":
                used = tf.cond(training, lambda: wait(batch), kept)
            else:
                used = tf.cond(training, batch, lambda: wait(kept))
            return tf.nn.batch_normalization(x, *used, beta, None, 1e-3)

    return norm


@case("EMA applied in the training branch", layers=["bn1", "bn2"], styles=ALL_STYLES)
def inside() -> Net:
    return network(_averaged("inside"), switch(), before=[])


@case("EMA applied before the cond, training waits for it", *both("BN202"), styles=ALL_STYLES)
def before_cond() -> Net:
    return network(_averaged("before"), switch(), before=[])


@case("EMA applied before the cond, inference waits for it", *both("BN202"), styles=ALL_STYLES)
def before_cond_inference() -> Net:
    return network(_averaged("before", "inference"), switch(), before=[])


@case("a cond whose branch is an update built before it", *both("BN202"), styles=ALL_STYLES)
def cond_of_update() -> Net:
    return network(_averaged("a cond of the update alone"), switch(), before=[])


def _population(x: tf.Tensor, training: Any, name: str, inside: bool) -> tf.Tensor:
    """Assigns pop_mean by hand and normalises in both branches, as recurrent cells do."""
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        kept = stored(int(x.shape[-1]), ("pop_mean", "pop_var"))
        mean, variance = tf.nn.moments(x, axes_of(x))

        def updates() -> list[Any]:
            return [
                tf.assign(kept.mean, kept.mean * 0.9 + mean * 0.1),
                tf.assign(kept.variance, kept.variance * 0.9 + variance * 0.1),
            ]

        before = [] if inside else updates()

        def by_batch() -> tf.Tensor:
            with tf.control_dependencies(before or updates()):
                return tf.nn.batch_normalization(x, mean, variance, kept.beta, kept.gamma, 1e-3)

        def by_population() -> tf.Tensor:
            return tf.nn.batch_normalization(
                x, kept.mean, kept.variance, kept.beta, kept.gamma, 1e-3
            )

        return tf.cond(training, by_batch, by_population)


@case("pop_mean assigned in the training branch", layers=["bn1", "bn2"], styles=ALL_STYLES)
def population() -> Net:
    return network(lambda x, t, n: _population(x, t, n, inside=True), switch())


@case("pop_mean assigned outside of the branches", *both("BN202"), styles=ALL_STYLES)
def population_outside() -> Net:
    return network(lambda x, t, n: _population(x, t, n, inside=False), switch())


def _cell(inside: bool) -> Net:
    """A recurrent network whose cell normalises, five steps of a v1 or v2 while loop."""
    training = switch()
    sequence = tf.placeholder(tf.float32, [None, 5, 8])
    labels = tf.placeholder(tf.int64, [None])
    with tf.variable_scope("bn1"):
        stored(8, ("pop_mean", "pop_var"))
    kernel = tf.get_variable("kernel", [8, 8])
    steps = tf.TensorArray(tf.float32, 5).unstack(tf.transpose(sequence, [1, 0, 2]))

    def body(step: tf.Tensor, state: tf.Tensor) -> Any:
        z = tf.matmul(steps.read(step) + state, kernel)
        z = _population(z, training, "bn1", inside)
        return step + 1, tf.tanh(tf.reshape(z, [-1, 8]))

    start = [tf.constant(0), tf.zeros_like(sequence[:, 0, :])]
    _, state = tf.while_loop(lambda step, _: step < 5, body, start)
    logits = dense(state, 10, "fc2")
    return Net(minimize(loss_of(labels, logits), []), logits, training)


@case("a recurrent cell assigns pop_mean in the training branch", styles=ALL_STYLES)
def cell() -> Net:
    return _cell(inside=True)


@case("a recurrent cell assigns pop_mean outside of the branches", "BN202 bn1", styles=ALL_STYLES)
def cell_outside() -> Net:
    return _cell(inside=False)


@case("momentum 1 in inference for an update built before the cond", styles=ALL_STYLES)
def before_cond_momentum() -> Net:
    """The update runs in inference too, and changes nothing."""

    def norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            kept = stored(int(x.shape[-1]))
            mean, variance = tf.nn.moments(x, axes_of(x))
            momentum = tf.cond(training, lambda: tf.constant(0.9), lambda: tf.constant(1.0))
            before = [moving(kept.mean, mean, momentum), moving(kept.variance, variance, momentum)]

            def batch() -> list[tf.Tensor]:
                with tf.control_dependencies(before):
                    return [tf.identity(mean), tf.identity(variance)]

            used = tf.cond(
                training, batch, lambda: [tf.identity(kept.mean), tf.identity(kept.variance)]
            )
            return tf.nn.batch_normalization(x, *used, kept.beta, kept.gamma, 1e-3)

    return network(norm, switch())
