"""Corpus, part 3: what is not batch normalisation, and what is rightly never updated."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from corpus.cases import (
    ALL_STYLES,
    Net,
    axes_of,
    case,
    conv,
    dense,
    inputs,
    loss_of,
    minimize,
    moments_norm,
    moving,
    stored,
    switch,
)
from corpus.single import both, network


def plain_network(layer: Any) -> Net:
    images, labels = inputs()
    x = tf.nn.relu(layer(conv(images, 6, "conv1"), "layer"))
    logits = dense(x, 10, "fc2")
    return Net(minimize(loss_of(labels, logits)), logits)


@case("no batch normalisation", layers=[])
def none() -> Net:
    return plain_network(lambda x, name: x)


def _scaled(x: tf.Tensor, axes: list[int], name: str) -> tf.Tensor:
    with tf.variable_scope(name):
        gamma = tf.get_variable("gamma", [int(x.shape[-1])])
        mean, variance = tf.nn.moments(x, axes, keepdims=True)
        return tf.nn.batch_normalization(x, mean, variance, None, gamma, 1e-3)


@case("layer normalisation", layers=[])
def layer_norm() -> Net:
    return plain_network(lambda x, name: _scaled(x, [1, 2, 3], name))


@case("instance normalisation", layers=[])
def instance_norm() -> Net:
    return plain_network(lambda x, name: _scaled(x, [1, 2], name))


@case("layer normalisation by the fused kernel on a batch of one", layers=[])
def fused_layer_norm() -> Net:
    def norm(x: tf.Tensor, name: str) -> tf.Tensor:
        shape = tf.shape(x)
        flat = tf.reshape(x, tf.stack([1, shape[0], 4 * 4 * 6, 1]))
        ones, zeros = tf.ones([shape[0]]), tf.zeros([shape[0]])
        y = tf.nn.fused_batch_norm(flat, ones, zeros, epsilon=1e-3, data_format="NCHW")[0]
        return tf.reshape(y, shape)

    return plain_network(norm)


@case("group normalisation", layers=[])
def group_norm() -> Net:
    def norm(x: tf.Tensor, name: str) -> tf.Tensor:
        grouped = tf.reshape(x, [-1, 4, 4, 3, 2])
        mean, variance = tf.nn.moments(grouped, [1, 2, 4], keepdims=True)
        return tf.reshape((grouped - mean) * tf.rsqrt(variance + 1e-3), [-1, 4, 4, 6])

    return plain_network(norm)


@case("L2 normalisation, over features and over the batch", layers=[])
def l2_norm() -> Net:
    return plain_network(
        lambda x, name: tf.nn.l2_normalize(tf.nn.l2_normalize(x, [1, 2, 3]), axis=[0, 1, 2])
    )


@case("weight normalisation and weight standardisation", layers=[])
def weight_norm() -> Net:
    images, labels = inputs()
    v = tf.get_variable("v", [48, 12])
    g = tf.get_variable("g", [12])
    x = tf.matmul(tf.reshape(images, [-1, 48]), g * tf.nn.l2_normalize(v, axis=0))
    w = tf.get_variable("w", [12, 10])
    mean, variance = tf.nn.moments(w, [0])
    logits = tf.matmul(tf.nn.relu(x), (w - mean) / tf.sqrt(variance + 1e-5))
    return Net(minimize(loss_of(labels, logits)), logits)


def channel_by_channel(image: tf.Tensor) -> tf.Tensor:
    mean, variance = tf.nn.moments(image, [0, 1])  # of one image: no batch
    return (image - mean) / tf.sqrt(variance + 1e-6)


@case("inputs standardised with constants and image by image", layers=[])
def standardised() -> Net:
    images, labels = inputs((8, 8, 3))
    mean = tf.constant([[[[0.4, 0.5, 0.6]]]])
    variance = tf.constant([[[[0.2, 0.3, 0.2]]]])
    x = (images - mean) / tf.sqrt(variance + 1e-6)
    x = tf.image.per_image_standardization(x)
    x = tf.map_fn(tf.image.per_image_standardization, x)
    x = tf.map_fn(channel_by_channel, x)
    logits = dense(conv(x, 6, "conv1"), 10, "fc2")
    return Net(minimize(loss_of(labels, logits)), logits)


@case("observations normalised by running averages only", styles=ALL_STYLES)
def observations() -> Net:
    images, labels = inputs()
    flat = tf.reshape(images, [-1, 48])
    with tf.variable_scope("observations"):
        kept = stored(48, ("running_mean", "running_variance"))
    mean, variance = tf.nn.moments(flat, [0])
    tf.group(moving(kept.mean, mean), moving(kept.variance, variance), name="observe")
    x = (flat - kept.mean) / tf.sqrt(kept.variance + 1e-5)
    logits = dense(x, 10, "fc2")
    return Net(minimize(loss_of(labels, logits), []), logits)


@case("frozen by hand, beside a layer that learns", layers=["bn1", "frozen"])
def frozen() -> Net:
    images, labels = inputs()
    training = switch()
    x = moments_norm(conv(images, 6, "conv1"), training, "bn1")
    with tf.variable_scope("frozen"):
        kept = stored(6)
        x = tf.nn.batch_normalization(x, kept.mean, kept.variance, kept.beta, kept.gamma, 1e-3)
    logits = dense(x, 10, "fc2")
    return Net(minimize(loss_of(labels, logits)), logits, training)


@case("weight averages, read in inference by a second tower", styles=ALL_STYLES)
def weight_ema() -> Net:
    return _weight_ema(moments_norm)


@case("weight averages of everything, batch norm forgotten", *both("BN101"))
def weight_ema_forgotten() -> Net:
    return _weight_ema(moments_norm, before=[])


def _weight_ema(norm: Any, before: Any = None) -> Net:
    net = network(norm, switch(), before)
    ema = tf.train.ExponentialMovingAverage(0.999)
    with tf.control_dependencies([net.train_ops]):
        train = ema.apply(tf.trainable_variables() + tf.moving_average_variables())
    kernel = next(v for v in tf.trainable_variables() if v.op.name == "fc2/kernel")
    averaged = tf.matmul(tf.nn.relu(net.logits), tf.transpose(ema.average(kernel)))
    logits = tf.concat([net.logits, averaged], 1)
    return net._replace(train_ops=train, logits=logits)


@case("shadows of the moving averages, kept for evaluation")
def shadow_averages() -> Net:
    net = network(moments_norm, switch())
    ema = tf.train.ExponentialMovingAverage(0.999)
    with tf.control_dependencies([net.train_ops]):
        train = ema.apply([v for v in tf.global_variables() if "moving" in v.op.name])
    return net._replace(train_ops=train)


@case("metrics, a smoothed loss, dropout and a global step in inference", styles=ALL_STYLES)
def bookkeeping() -> Net:
    images, labels = inputs()
    training = switch()
    x = moments_norm(conv(images, 6, "conv1"), training, "bn1")
    x = tf.nn.dropout(x, rate=tf.where(training, 0.5, 0.0))
    logits = dense(x, 10, "fc2")
    loss = loss_of(labels, logits)
    step = tf.train.get_or_create_global_step()
    smooth = tf.train.ExponentialMovingAverage(0.9, step)
    with tf.control_dependencies([smooth.apply([loss])]):
        train = minimize(loss, global_step=step)
    _, accuracy = tf.metrics.accuracy(labels, tf.argmax(logits, 1))
    _, mean = tf.metrics.mean(tf.reduce_mean(x, [0, 1, 2]))
    seen = tf.get_variable("seen", [], initializer=tf.zeros_initializer(), trainable=False)
    with tf.control_dependencies([accuracy, mean, tf.assign_add(seen, 1.0)]):
        logits = tf.identity(logits)
    return Net(train, logits, training)


@case("activations watched by an average of their batch mean")
def watched() -> Net:
    images, labels = inputs()
    training = switch()
    h = conv(images, 6, "conv1")
    x = moments_norm(h, training, "bn1")
    watch = tf.train.ExponentialMovingAverage(0.9)
    done = watch.apply([tf.reduce_mean(h, [0, 1, 2]), tf.reduce_mean(x, [0, 1, 2])])
    logits = dense(x, 10, "fc2")
    return Net(tf.group(minimize(loss_of(labels, logits)), done), logits, training)


@case("gradient descent and Adam written by hand", layers=["bn1"], styles=ALL_STYLES)
def optimisers() -> Net:
    images, labels = inputs()
    training = switch()
    x = moments_norm(conv(images, 6, "conv1"), training, "bn1")
    logits = dense(x, 10, "fc2")
    steps = list(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
    variables = tf.trainable_variables()
    for variable, gradient in zip(
        variables, tf.gradients(loss_of(labels, logits), variables), strict=True
    ):
        if variable.op.name.startswith("fc2"):
            steps.append(_adam(variable, gradient))
        else:
            steps.append(tf.assign_sub(variable, 0.1 * gradient))
    return Net(tf.group(*steps), logits, training)


def _adam(variable: Any, gradient: tf.Tensor) -> tf.Tensor:
    with tf.variable_scope(variable.op.name + "_adam"):
        zeros = tf.zeros_initializer()
        m = tf.get_variable("m", variable.shape, initializer=zeros, trainable=False)
        v = tf.get_variable("v", variable.shape, initializer=zeros, trainable=False)
    m_now = tf.assign(m, 0.9 * m + 0.1 * gradient)
    v_now = tf.assign(v, 0.999 * v + 0.001 * tf.square(gradient))
    return tf.assign_sub(variable, 1e-3 * m_now / (tf.sqrt(v_now) + 1e-8))


@case("batch renormalisation")
def renorm() -> Net:
    def norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            kept = stored(int(x.shape[-1]))
            mean, variance = tf.nn.moments(x, axes_of(x))
            deviation = tf.sqrt(variance + 1e-3)
            kept_deviation = tf.sqrt(kept.variance + 1e-3)
            r = tf.stop_gradient(tf.clip_by_value(deviation / kept_deviation, 0.5, 2.0))
            d = tf.stop_gradient(tf.clip_by_value((mean - kept.mean) / kept_deviation, -1.0, 1.0))
            for variable, value in ((kept.mean, mean), (kept.variance, variance)):
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, moving(variable, value))
            y = tf.cond(
                training,
                lambda: (x - mean) / deviation * r + d,
                lambda: (x - kept.mean) / kept_deviation,
            )
            return y * kept.gamma + kept.beta

    return network(norm, switch())
