"""Corpus, part 5: layers that train on their stored averages, and what the graph's Saver saves."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from corpus.cases import (
    ALL_STYLES,
    Net,
    case,
    conv,
    dense,
    fused_norm,
    inputs,
    loss_of,
    minimize,
    moments_norm,
    moving,
    stored,
    switch,
)
from corpus.networks import _static_norm
from corpus.single import Norm, both, network, only_4d


def stored_norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
    """tf.layers.batch_normalization without `training=`: it normalises with what is stored."""
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        kept = stored(int(x.shape[-1]))
        return tf.nn.batch_normalization(x, kept.mean, kept.variance, kept.beta, kept.gamma, 1e-3)


def stored_fused_norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
    """The same with the fused kernel, as tf.layers builds it for images."""
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        kept = stored(int(x.shape[-1]))
        return tf.nn.fused_batch_norm(
            x, kept.gamma, kept.beta, kept.mean, kept.variance, 1e-3, is_training=False
        )[0]


def unscaled_norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
    """The same without scale and shift."""
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        kept = stored(int(x.shape[-1]))
        return tf.nn.batch_normalization(x, kept.mean, kept.variance, None, None, 1e-3)


# ---- training= forgotten -----------------------------------------------------------------------


@case("training= forgotten", *both("BN103"), layers=["bn1", "bn2"], styles=ALL_STYLES)
def forgotten() -> Net:
    return network(stored_norm, None)


@case("training= forgotten, fused", *both("BN103"), styles=ALL_STYLES)
def forgotten_fused() -> Net:
    return only_4d(stored_fused_norm, None)


@case("training= forgotten, no scale, no shift", *both("BN103"))
def forgotten_unscaled() -> Net:
    return network(unscaled_norm, None)


@case("training= forgotten, a switch for dropout alone", *both("BN103"), styles=ALL_STYLES)
def forgotten_with_dropout() -> Net:
    return network(_dropped(stored_norm), switch())


@case("training= given, a switch for dropout as well", styles=ALL_STYLES)
def given_with_dropout() -> Net:
    return network(_dropped(moments_norm), switch())


def _dropped(norm: Norm) -> Norm:
    def build(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        y = norm(x, training, name)
        return tf.cond(training, lambda: tf.nn.dropout(y, rate=0.5), lambda: tf.identity(y))

    return build


@case("training= forgotten, gradient descent written by hand", *both("BN103"))
def forgotten_by_hand() -> Net:
    images, labels = inputs()
    x = tf.nn.relu(stored_norm(conv(images, 6, "conv1"), None, "bn1"))
    logits = dense(tf.nn.relu(stored_norm(dense(x, 5, "fc1"), None, "bn2")), 10, "fc2")
    variables = tf.trainable_variables()
    gradients = tf.gradients(loss_of(labels, logits), variables)
    steps = [tf.assign_sub(v, 0.1 * g) for v, g in zip(variables, gradients, strict=True)]
    return Net(tf.group(*steps, name="train"), logits)


@case("training= forgotten, a step for each variable", *both("BN103"))
def forgotten_step_by_step() -> Net:
    net = network(stored_norm, None, [])
    return net._replace(train_ops=descents(net.logits))


@case(
    "fine-tuned by a step for each variable, its first layer frozen",
    layers=["bn1", "bn2"],
    alone=["BN103 bn1", "BN101 bn2"],  # nothing says that the loop runs the updates
)
def partly_frozen_step_by_step() -> Net:
    images, _ = inputs()
    training = switch()
    x = tf.nn.relu(stored_norm(conv(images, 6, "conv1"), None, "bn1"))
    x = tf.nn.relu(moments_norm(dense(x, 5, "fc1"), training, "bn2"))
    logits = dense(x, 10, "fc2")
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    return Net([*descents(logits), *updates], logits, training)


def descents(logits: tf.Tensor) -> list[Any]:
    variables = tf.trainable_variables()
    gradients = tf.gradients(tf.reduce_mean(logits**2), variables)
    return [tf.assign_sub(v, 0.1 * g) for v, g in zip(variables, gradients, strict=True)]


@case("training= forgotten in a network of its own, beside a right one", "BN103 other/bn")
def forgotten_beside_another() -> Net:
    """Two training ops: that the first moves averages says nothing of the second."""
    images, labels = inputs()
    training = switch()
    right = dense(tf.nn.relu(moments_norm(dense(images, 5, "fc1"), training, "bn1")), 10, "fc2")
    first = minimize(loss_of(labels, right), var_list=tf.trainable_variables())
    ours = set(tf.trainable_variables())
    with tf.variable_scope("other"):
        wrong = dense(tf.nn.relu(stored_norm(dense(images, 5, "fc1"), None, "bn")), 10, "fc2")
    theirs = [v for v in tf.trainable_variables() if v not in ours]
    second = minimize(loss_of(labels, wrong), [], var_list=theirs)
    return Net([first, second], [right, wrong], training)


# ---- frozen on purpose -------------------------------------------------------------------------


@case("only a new head is trained, on frozen layers", layers=["bn1", "bn2"], styles=ALL_STYLES)
def new_head() -> Net:
    images, labels = inputs()
    x = tf.nn.relu(stored_fused_norm(conv(images, 6, "conv1"), None, "bn1"))
    x = tf.nn.relu(stored_fused_norm(conv(x, 5, "conv2"), None, "bn2"))
    logits = dense(x, 10, "fc2")
    head = [v for v in tf.trainable_variables() if v.name.startswith("fc2")]
    return Net(minimize(loss_of(labels, logits), var_list=head), logits)


@case("fine-tuned, its first layer frozen, the second learns", layers=["bn1", "bn2"])
def partly_frozen() -> Net:
    images, labels = inputs()
    training = switch()
    x = tf.nn.relu(stored_norm(conv(images, 6, "conv1"), None, "bn1"))
    x = tf.nn.relu(moments_norm(dense(x, 5, "fc1"), training, "bn2"))
    logits = dense(x, 10, "fc2")
    return Net(minimize(loss_of(labels, logits)), logits, training)


@case("a scorer that the training op runs and leaves as it is", layers=["bn1", "scorer/bn"])
def frozen_scorer() -> Net:
    """A perceptual loss: the layer is run in training, and nothing of it is trained."""
    images, labels = inputs()
    training = switch()
    x = tf.nn.relu(moments_norm(dense(images, 6, "fc1"), training, "bn1"))
    logits = dense(x, 10, "fc2")
    ours = tf.trainable_variables()
    with tf.variable_scope("scorer"):
        score = stored_norm(dense(logits, 4, "fc"), None, "bn")
    loss = loss_of(labels, logits) + tf.reduce_mean(score**2)
    return Net(minimize(loss, var_list=ours), logits, training)


@case("trains on its averages, which each step updates", styles=ALL_STYLES)
def on_its_averages() -> Net:
    return network(_averaged_norm, None)


def _averaged_norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
    """Normalised by its running averages in training as well."""
    with tf.variable_scope(name):
        size = int(x.shape[-1])
        kept = stored(size)
        mean, variance = tf.nn.moments(x, list(range(len(x.shape) - 1)))
        for update in (moving(kept.mean, mean), moving(kept.variance, variance)):
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
        return tf.nn.batch_normalization(x, kept.mean, kept.variance, kept.beta, kept.gamma, 1e-3)


# ---- what the graph's Saver saves --------------------------------------------------------------


@case("Saver of all variables", styles=ALL_STYLES)
def saved() -> Net:
    net = network(moments_norm, switch())
    tf.train.Saver()
    return net


@case("Saver of the trainable variables", *both("BN301"), styles=ALL_STYLES)
def unsaved() -> Net:
    net = network(moments_norm, switch())
    tf.train.Saver(tf.trainable_variables())
    return net


@case("Saver of the trainable variables, fused, sharded", *both("BN301"))
def unsaved_sharded() -> Net:
    net = only_4d(fused_norm, switch())
    tf.train.Saver(tf.trainable_variables(), sharded=True)
    return net


@case("Saver of the first format, of the trainable variables", *both("BN301"), styles=ALL_STYLES)
def unsaved_v1() -> Net:
    net = network(moments_norm, switch())
    tf.train.Saver(tf.trainable_variables(), write_version=tf.train.SaverDef.V1)
    return net


@case("a graph that only trains, Saver of all variables")
def only_trains() -> Net:
    net = network(_static_norm, True)
    tf.train.Saver()
    return net._replace(logits=[])


@case("a graph that only trains, Saver of the trainable variables", *both("BN301"))
def only_trains_unsaved() -> Net:
    net = network(_static_norm, True)
    tf.train.Saver(tf.trainable_variables())
    return net._replace(logits=[])


@case("Saver of the first format, of all variables", styles=ALL_STYLES)
def saved_v1() -> Net:
    net = network(moments_norm, switch())
    tf.train.Saver(write_version=tf.train.SaverDef.V1)
    return net


@case("Saver whose list was made before the second layer", "BN301 bn2")
def saved_too_early() -> Net:
    images, labels = inputs()
    training = switch()
    x = tf.nn.relu(moments_norm(conv(images, 6, "conv1"), training, "bn1"))
    early = tf.global_variables()
    x = tf.nn.relu(moments_norm(dense(x, 5, "fc1"), training, "bn2"))
    logits = dense(x, 10, "fc2")
    train = minimize(loss_of(labels, logits))
    tf.train.Saver(early)
    return Net(train, logits, training)


@case("Saver of the backbone, to restore it, beside one of all variables", styles=ALL_STYLES)
def two_savers() -> Net:
    net = network(moments_norm, switch())
    tf.train.Saver([v for v in tf.trainable_variables() if v.name.startswith("conv1")])
    tf.train.Saver(tf.global_variables())
    return net


@case("Saver that keeps the averages under other names")
def renamed() -> Net:
    net = network(moments_norm, switch())
    tf.train.Saver({f"model/{v.op.name}": v for v in tf.global_variables()})
    return net
