"""Corpus, part 7: layers that no example passes through: folded into weights, or last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow.compat.v1 as tf

from corpus.cases import (
    ALL_STYLES,
    Net,
    Stored,
    axes_of,
    case,
    conv,
    dense,
    inputs,
    loss_of,
    minimize,
    moving,
    stored,
    switch,
)
from corpus.single import both, network

UPDATE_OPS = tf.GraphKeys.UPDATE_OPS
Linear = Callable[[tf.Tensor, Any], tf.Tensor]

# ---- folded into the weights, as quantisation does ---------------------------------------------


def _convolve(x: tf.Tensor, kernel: Any) -> tf.Tensor:
    return tf.nn.conv2d(x, kernel, strides=[1, 1, 1, 1], padding="SAME")


def _convolve_depthwise(x: tf.Tensor, kernel: Any) -> tf.Tensor:
    return tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME")


def _collect(kept: Stored, mean: tf.Tensor, variance: tf.Tensor) -> list[Any]:
    updates = [moving(kept.mean, mean), moving(kept.variance, variance)]
    for update in updates:
        tf.add_to_collection(UPDATE_OPS, update)
    return updates


def _chosen(form: str, training: Any, kept: Stored, x: tf.Tensor) -> list[tf.Tensor]:
    """The mean and the variance to fold, by `form`; x is what the weights alone would make."""

    def averages() -> list[tf.Tensor]:
        return [tf.identity(kept.mean), tf.identity(kept.variance)]

    if form == "frozen":
        return averages()
    mean, variance = tf.nn.moments(x, axes_of(x))
    if form != "never updated":
        _collect(kept, mean, variance)
    if form == "batch":
        return [mean, variance]
    return tf.cond(training, lambda: [tf.identity(mean), tf.identity(variance)], averages)


def _folded(x: tf.Tensor, linear: Linear, shape: list[int], name: str, *how: Any) -> tf.Tensor:
    """One layer: linear(x, w * s) + (b - mean * s), where s = gamma / sqrt(variance + eps)."""
    form, training = how
    with tf.variable_scope(name):
        kernel = tf.get_variable("kernel", shape)
        channels = shape[-1] * (shape[-2] if linear is _convolve_depthwise else 1)
        kept = stored(channels)
        mean, variance = _chosen(form, training, kept, linear(x, kernel))
        scale = kept.gamma * tf.rsqrt(variance + 1e-3)
        wide = tf.reshape(scale, shape[-2:]) if linear is _convolve_depthwise else scale
        return tf.nn.leaky_relu(linear(x, kernel * wide) + (kept.beta - mean * scale))


def _folded_network(form: str, training: Any, before: Any = None) -> Net:
    images, labels = inputs()
    how = (form, training)
    x = _folded(images, _convolve, [3, 3, 3, 6], "bn1", *how)
    x = _folded(x, _convolve_depthwise, [3, 3, 6, 1], "bn2", *how)
    x = _folded(tf.reshape(x, [-1, 96]), tf.matmul, [96, 5], "bn3", *how)
    logits = dense(x, 10, "fc2")
    return Net(minimize(loss_of(labels, logits), before), logits, training)


def _all(*rules: str) -> list[str]:
    return [f"{rule} bn{k}" for k in (1, 2, 3) for rule in rules]


@case("folded into weights: right", layers=["bn1", "bn2", "bn3"], styles=ALL_STYLES)
def folded() -> Net:
    return _folded_network("chosen", switch())


@case("folded into weights: updates forgotten", *_all("BN101"), styles=ALL_STYLES)
def folded_forgotten() -> Net:
    return _folded_network("chosen", switch(), before=[])


@case("folded into weights: never updated", *_all("BN102"), styles=ALL_STYLES)
def folded_never() -> Net:
    return _folded_network("never updated", switch())


@case("folded into weights: the batch's moments always", *_all("BN201", "BN203"), styles=ALL_STYLES)
def folded_batch() -> Net:
    return _folded_network("batch", switch())


def _corrected(x: tf.Tensor, training: Any, name: str, before: list[Any]) -> tf.Tensor:
    """As tf.contrib.quantize trains: the averages' scale in the weights, corrected to the batch's.

    The layer itself stays in the graph for its moments; nothing reads what it normalises.
    """
    with tf.variable_scope(name):
        kernel, kept = tf.get_variable("kernel", [3, 3, int(x.shape[-1]), 6]), stored(6)
        fused = tf.nn.fused_batch_norm(_convolve(x, kernel), kept.gamma, kept.beta, epsilon=1e-3)
        before += _collect(kept, *fused[1:3])
        by_averages, by_batch = (tf.rsqrt(v + 1e-3) for v in (kept.variance, fused[2]))
        correction = tf.identity(by_averages / by_batch)
        back = tf.cond(training, lambda: 1.0 / correction, lambda: tf.ones([6]))
        weights = tf.cond(training, lambda: kernel * correction, lambda: tf.identity(kernel))
        used = tf.cond(
            training,
            lambda: [tf.identity(fused[1]), tf.identity(fused[2])],
            lambda: [tf.identity(kept.mean), tf.identity(kept.variance)],
        )
        scale = kept.gamma * tf.rsqrt(used[1] + 1e-3)
        quantised = tf.quantization.fake_quant_with_min_max_args(weights * scale, -9, 9, 16)
        return _convolve(x, quantised) * back + (kept.beta - used[0] * scale)


def _quantised(*, forgotten: bool) -> Net:
    images, labels = inputs()
    training, updates = switch(), list[Any]()
    x = tf.nn.relu(_corrected(images, training, "bn1", updates))
    logits = dense(tf.nn.relu(_corrected(x, training, "bn2", updates)), 10, "fc2")
    before = [] if forgotten else updates
    return Net(minimize(loss_of(labels, logits), before), logits, training)


@case("folded with a correction: right", layers=["bn1", "bn2"], styles=ALL_STYLES)
def quantised() -> Net:
    return _quantised(forgotten=False)


@case("folded with a correction: updates forgotten", *both("BN101"), styles=ALL_STYLES)
def quantised_forgotten() -> Net:
    return _quantised(forgotten=True)


# ---- trains on its averages, just updated ------------------------------------------------------


def _on_averages(form: str) -> Callable[[tf.Tensor, Any, str], tf.Tensor]:
    """Updates, then normalises with the averages; `form` says what waits for the update."""

    def norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            kept = stored(int(x.shape[-1]))
            mean, variance = tf.nn.moments(x, axes_of(x))

            def averages() -> list[tf.Tensor]:
                return [tf.identity(kept.mean), tf.identity(kept.variance)]

            def updated() -> list[tf.Tensor]:
                updates = [moving(kept.mean, mean), moving(kept.variance, variance)]
                with tf.control_dependencies([tf.group(*updates)]):
                    return averages()

            if form == "waits":
                used = tf.cond(training, updated, averages)
            elif form == "always":
                used = updated()
            else:
                _collect(kept, mean, variance)
                used = averages()
            return tf.nn.batch_normalization(x, *used, kept.beta, kept.gamma, 1e-3)

    return norm


@case("trains on its averages, just updated", layers=["bn1", "bn2"], styles=ALL_STYLES)
def on_averages() -> Net:
    return network(_on_averages("waits"), switch(), before=[])


@case("trains on its averages, whose update is collected and run", styles=ALL_STYLES)
def on_averages_collected() -> Net:
    return network(_on_averages("collected"), switch())


@case("trains on its averages, whose update is only collected", *both("BN101"), styles=ALL_STYLES)
def on_averages_forgotten() -> Net:
    return network(_on_averages("collected"), switch(), before=[])


@case("trains and infers on its averages, just updated", *both("BN202"), styles=ALL_STYLES)
def on_averages_always() -> Net:
    return network(_on_averages("always"), switch(), before=[])


# ---- a network that ends in a batch normalisation ----------------------------------------------


def _segments(before: Any = None) -> Net:
    """One class a pixel; the cond returns the batch's mean and variance beside the output."""
    images, labels = inputs()
    training, x = switch(), conv(images, 10, "conv1")
    with tf.variable_scope("bn1"):
        kept = stored(10)
        affine = {"scale": kept.gamma, "offset": kept.beta, "epsilon": 1e-3}
        y, mean, variance = tf.cond(
            training,
            lambda: tf.nn.fused_batch_norm(x, **affine)[:3],
            lambda: tf.nn.fused_batch_norm(
                x, **affine, mean=kept.mean, variance=kept.variance, is_training=False
            )[:3],
        )
        rate = tf.cond(training, lambda: tf.constant(0.9), lambda: tf.constant(1.0))
        for variable, value in ((kept.mean, mean), (kept.variance, variance)):
            tf.add_to_collection(UPDATE_OPS, moving(variable, value, rate))
    per_pixel = tf.repeat(labels, 16)
    return Net(minimize(loss_of(per_pixel, tf.reshape(y, [-1, 10])), before), y, training)


@case("a batch normalisation is last: right", layers=["bn1"], styles=ALL_STYLES)
def is_last() -> Net:
    return _segments()


@case("a batch normalisation is last: updates forgotten", "BN101 bn1", styles=ALL_STYLES)
def is_last_forgotten() -> Net:
    return _segments(before=[])
