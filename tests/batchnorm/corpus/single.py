"""Corpus, part 1: one network with one or two layers, in the usual forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow.compat.v1 as tf

from corpus.cases import (
    ALL_STYLES,
    Net,
    axes_of,
    case,
    conv,
    dense,
    ema_norm,
    fused_norm,
    inputs,
    loss_of,
    minimize,
    moments_norm,
    moving,
    stored,
    switch,
)

Norm = Callable[[tf.Tensor, Any, str], tf.Tensor]


def network(norm: Norm, training: Any, before: Any = None) -> Net:
    """Convolution, norm, dense, norm, dense."""
    images, labels = inputs()
    x = tf.nn.relu(norm(conv(images, 6, "conv1"), training, "bn1"))
    x = tf.nn.relu(norm(dense(x, 5, "fc1"), training, "bn2"))
    logits = dense(x, 10, "fc2")
    return Net(minimize(loss_of(labels, logits), before), logits, training)


def both(*rules: str) -> list[str]:
    return [f"{rule} {layer}" for layer in ("bn1", "bn2") for rule in rules]


def only_4d(norm: Norm, training: Any, before: Any = None) -> Net:
    """For fused kernels: both norms on images."""
    images, labels = inputs()
    x = tf.nn.relu(norm(conv(images, 6, "conv1"), training, "bn1"))
    x = tf.nn.relu(norm(conv(x, 5, "conv2"), training, "bn2"))
    logits = dense(x, 10, "fc2")
    return Net(minimize(loss_of(labels, logits), before), logits, training)


@case("unfused, UPDATE_OPS under control", layers=["bn1", "bn2"], styles=ALL_STYLES)
def unfused() -> Net:
    return network(moments_norm, switch())


@case("unfused, UPDATE_OPS forgotten", *both("BN101"), styles=ALL_STYLES)
def unfused_forgotten() -> Net:
    return network(moments_norm, switch(), before=[])


@case("fused, UPDATE_OPS under control", layers=["bn1", "bn2"], styles=ALL_STYLES)
def fused() -> Net:
    return only_4d(fused_norm, switch())


@case("fused, UPDATE_OPS forgotten", *both("BN101"), styles=ALL_STYLES)
def fused_forgotten() -> Net:
    return only_4d(fused_norm, switch(), before=[])


@case("unfused, updates inline", layers=["bn1", "bn2"], styles=ALL_STYLES)
def inline() -> Net:
    return network(lambda x, t, n: moments_norm(x, t, n, "inline"), switch())


@case("unfused, update in the wrong branch", *both("BN101"), styles=ALL_STYLES)
def wrong_branch() -> Net:
    return network(lambda x, t, n: moments_norm(x, t, n, "wrong branch"), switch())


@case("unfused, inline update in the wrong branch", *both("BN101", "BN202"), styles=ALL_STYLES)
def wrong_branch_inline() -> Net:
    return network(lambda x, t, n: moments_norm(x, t, n, "wrong branch inline"), switch())


@case("unfused, no update at all", *both("BN102"), styles=ALL_STYLES)
def no_update() -> Net:
    return network(lambda x, t, n: moments_norm(x, t, n, "none"), switch())


@case("unfused, unconditional update in UPDATE_OPS", styles=ALL_STYLES)
def always() -> Net:
    return network(lambda x, t, n: moments_norm(x, t, n, "always"), switch())


@case("EMA under tf.cond", layers=["bn1", "bn2"], styles=ALL_STYLES)
def ema_cond() -> Net:
    return network(ema_norm, switch())


@case("EMA, zero-debiased, in UPDATE_OPS", layers=["bn1", "bn2"], styles=ALL_STYLES)
def ema_debiased() -> Net:
    return network(lambda x, t, n: ema_norm(x, t, n, "debiased"), switch())


@case("EMA, zero-debiased, forgotten", *both("BN101"), styles=ALL_STYLES)
def ema_debiased_forgotten() -> Net:
    return network(lambda x, t, n: ema_norm(x, t, n, "debiased"), switch(), before=[])


@case(
    "EMA applied and never read (the original)",
    *both("BN201", "BN202", "BN203"),
    layers=["bn1", "bn2"],
    styles=ALL_STYLES,
)
def ema_original() -> Net:
    return network(lambda x, t, n: ema_norm(x, t, n, "original"), switch())


@case("EMA applied outside the cond", *both("BN202"), styles=ALL_STYLES)
def ema_outside() -> Net:
    return network(lambda x, t, n: ema_norm(x, t, n, "outside cond"), switch())


@case("moments without any averages", *both("BN201"))
def batch_only() -> Net:
    def norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            beta = tf.get_variable("beta", [int(x.shape[-1])])
            mean, variance = tf.nn.moments(x, axes_of(x))
            return tf.nn.batch_normalization(x, mean, variance, beta, None, 1e-3)

    return network(norm, switch())


@case("branches of the cond swapped", *both("BN201", "BN203"))
def swapped_branches() -> Net:
    def norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            kept = stored(int(x.shape[-1]))
            mean, variance = tf.nn.moments(x, axes_of(x))
            for variable, value in ((kept.mean, mean), (kept.variance, variance)):
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, moving(variable, value))
            used = tf.cond(
                training,
                lambda: (tf.identity(kept.mean), tf.identity(kept.variance)),
                lambda: (tf.identity(mean), tf.identity(variance)),
            )
            return tf.nn.batch_normalization(x, *used, kept.beta, kept.gamma, 1e-3)

    # Inference uses the batch and never the averages, which training normalises with.
    return network(norm, switch())


def _written(form: str, variance_form: str = "moments") -> Norm:
    """Hand-written in the many ways there are; `form` is how y is computed."""

    def variance_of(x: tf.Tensor, axes: list[int]) -> tuple[tf.Tensor, tf.Tensor]:
        if variance_form == "squares":
            mean = tf.reduce_mean(x, axes)
            return mean, tf.reduce_mean(tf.square(x), axes) - tf.square(mean)
        if variance_form == "products":
            mean = tf.reduce_mean(x, axes)
            return mean, tf.reduce_mean(x * x, axes) - mean * mean
        if variance_form == "deviations":
            mean = tf.reduce_mean(x, axes, keepdims=True)
            variance = tf.reduce_mean(tf.square(x - mean), axes)
            return tf.squeeze(mean, axes), variance
        if variance_form == "deviations written twice":
            mean = tf.reduce_mean(x, axes)
            return mean, tf.reduce_mean((x - mean) * (x - mean), axes)
        if variance_form == "power":
            mean = tf.reduce_mean(x, axes)
            return mean, tf.reduce_mean(tf.pow(x - mean, 2.0), axes)
        if variance_form == "reduce_variance":
            return tf.reduce_mean(x, axes), tf.math.reduce_variance(x, axes)
        if variance_form == "sufficient":
            counts, m_ss, v_ss, shift = tf.nn.sufficient_statistics(x, axes)
            return tf.nn.normalize_moments(counts, m_ss, v_ss, shift)
        if variance_form == "shifted":
            counts, m_ss, v_ss, shift = tf.nn.sufficient_statistics(x, axes, shift=0.5)
            return tf.nn.normalize_moments(counts, m_ss, v_ss, shift)
        if variance_form == "counts":
            count = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
            mean = tf.reduce_sum(x, axes) / count
            return mean, tf.reduce_sum(tf.math.squared_difference(x, mean), axes) / count
        if variance_form == "negative axes":
            mean = tf.reduce_mean(x, [a - len(x.shape) for a in axes])
            return mean, tf.reduce_mean(tf.square(x - mean), [a - len(x.shape) for a in axes])
        if variance_form == "weighted":
            weights = tf.ones_like(x[..., :1])
            return tf.nn.weighted_moments(x, axes, weights)
        if variance_form == "half":
            mean, variance = tf.nn.moments(tf.cast(x, tf.float32), axes)
            return mean, variance
        return tf.nn.moments(x, axes)

    def norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            kept = stored(int(x.shape[-1]), ("pop_mean", "pop_var"))
            mean, variance = variance_of(x, axes_of(x))
            for variable, value in ((kept.mean, mean), (kept.variance, variance)):
                blended = variable * 0.9 + value * (1 - 0.9)
                update = tf.assign(variable, blended)
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
            used_mean = tf.cond(training, lambda: mean, lambda: tf.identity(kept.mean))
            used_var = tf.cond(training, lambda: variance, lambda: tf.identity(kept.variance))
            return _normalised(form, x, used_mean, used_var, kept)

    return norm


def _normalised(form: str, x: Any, mean: Any, variance: Any, kept: Any) -> Any:
    if form == "quotient":
        return (x - mean) / tf.sqrt(variance + 1e-3) * kept.gamma + kept.beta
    if form == "product":
        return kept.gamma * ((x - mean) * tf.rsqrt(variance + 1e-3)) + kept.beta
    if form == "power":
        return (x - mean) * tf.pow(variance + 1e-3, -0.5) * kept.gamma + kept.beta
    if form == "deviation":
        return tf.div(x - mean, tf.sqrt(variance) + 1e-3) * kept.gamma + kept.beta
    if form == "scale and shift":
        scale = kept.gamma / tf.sqrt(variance + 1e-3)
        return x * scale + (kept.beta - mean * scale)
    if form == "plain":
        return (x - mean) / tf.sqrt(variance + 1e-3)
    if form == "reciprocal":
        return kept.beta + (x - mean) * kept.gamma * (1.0 / tf.sqrt(variance + 1e-3))
    if form == "fused op":
        y, _, _ = tf.nn.fused_batch_norm(
            x, kept.gamma, kept.beta, mean, variance, 1e-3, is_training=False
        )
        return y
    return tf.nn.batch_normalization(x, mean, variance, kept.beta, kept.gamma, 1e-3)


_FORMS = (
    "quotient",
    "product",
    "power",
    "deviation",
    "scale and shift",
    "plain",
    "reciprocal",
    "tf.nn.batch_normalization",
)
_VARIANCES = (
    "squares",
    "products",
    "deviations",
    "deviations written twice",
    "power",
    "reduce_variance",
    "sufficient",
    "shifted",
    "counts",
    "negative axes",
)


def _register(name: str, norm: Norm) -> None:
    case(f"{name}: right", layers=["bn1", "bn2"])(lambda: network(norm, switch()))
    case(f"{name}: update forgotten", *both("BN101"))(lambda: network(norm, switch(), before=[]))


for _form in _FORMS:
    _register(f"y by {_form}", _written(_form))
for _variance in _VARIANCES:
    _register(f"variance by {_variance}", _written("product", _variance))


@case("moments fed to the fused kernel: right")
def fed_to_fused() -> Net:
    return only_4d(_written("fused op"), switch())


@case("moments fed to the fused kernel: update forgotten", *both("BN101"))
def fed_to_fused_forgotten() -> Net:
    return only_4d(_written("fused op"), switch(), before=[])


@case("tf.where chooses the statistics: right", styles=ALL_STYLES)
def where() -> Net:
    return network(lambda x, t, n: _by_where(x, t, n), switch())


@case("tf.where chooses the statistics: the wrong way", *both("BN201", "BN203"))
def where_wrong() -> Net:
    training = switch()
    net = network(lambda x, t, n: _by_where(x, tf.logical_not(t), n), training)
    return net._replace(is_training=training)


def _by_where(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
    with tf.variable_scope(name):
        kept = stored(int(x.shape[-1]))
        mean, variance = tf.nn.moments(x, axes_of(x))
        momentum = tf.where(training, 0.9, 1.0)
        for variable, value in ((kept.mean, mean), (kept.variance, variance)):
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, moving(variable, value, momentum))
        chosen = tf.fill([int(x.shape[-1])], training)
        used_mean = tf.where(chosen, mean, tf.identity(kept.mean))
        used_var = tf.where(chosen, variance, tf.identity(kept.variance))
        return tf.nn.batch_normalization(x, used_mean, used_var, kept.beta, kept.gamma, 1e-3)


@case("statistics blended by the switch as a number: right")
def blended() -> Net:
    def norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            kept = stored(int(x.shape[-1]))
            mean, variance = tf.nn.moments(x, axes_of(x))
            on = tf.cast(training, tf.float32)
            for variable, value in ((kept.mean, mean), (kept.variance, variance)):
                update = tf.assign_sub(variable, 0.1 * on * (variable - value))
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
            mean = on * mean + (1.0 - on) * kept.mean
            variance = on * variance + (1.0 - on) * kept.variance
            return tf.nn.batch_normalization(x, mean, variance, kept.beta, kept.gamma, 1e-3)

    return network(norm, switch())


@case("averages' roles swapped", *both("BN102"), styles=ALL_STYLES)
def roles_swapped() -> Net:
    def norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            kept = stored(int(x.shape[-1]))
            mean, variance = tf.nn.moments(x, axes_of(x))
            for variable, value in ((kept.mean, variance), (kept.variance, mean)):
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, moving(variable, value))
            used = tf.cond(
                training,
                lambda: (mean, variance),
                lambda: (tf.identity(kept.mean), tf.identity(kept.variance)),
            )
            return tf.nn.batch_normalization(x, *used, kept.beta, kept.gamma, 1e-3)

    return network(norm, switch())


@case("only the mean is updated", *both("BN102"))
def half_updated() -> Net:
    def norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            kept = stored(int(x.shape[-1]))
            mean, variance = tf.nn.moments(x, axes_of(x))
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, moving(kept.mean, mean))
            used = tf.cond(
                training,
                lambda: (mean, variance),
                lambda: (tf.identity(kept.mean), tf.identity(kept.variance)),
            )
            return tf.nn.batch_normalization(x, *used, kept.beta, kept.gamma, 1e-3)

    return network(norm, switch())


@case("inference centres with the average, scales by the batch", *both("BN201", "BN203"))
def half_read() -> Net:
    def norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            kept = stored(int(x.shape[-1]))
            mean, variance = tf.nn.moments(x, axes_of(x))
            for variable, value in ((kept.mean, mean), (kept.variance, variance)):
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, moving(variable, value))
            used = tf.cond(training, lambda: mean, lambda: tf.identity(kept.mean))
            return tf.nn.batch_normalization(x, used, variance, kept.beta, kept.gamma, 1e-3)

    return network(norm, switch())


@case("momentum 1 in training: the update changes nothing", *both("BN101"))
def momentum_one() -> Net:
    training = switch()

    def norm(x: tf.Tensor, on: Any, name: str) -> tf.Tensor:
        momentum = tf.cond(on, lambda: tf.constant(1.0), lambda: tf.constant(0.99))
        return fused_norm(x, on, name, momentum)

    return only_4d(norm, training)
