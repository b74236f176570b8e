"""Corpus, part 2: how updates reach training, what switches, who shares."""

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
from corpus.single import both, network, only_4d

UPDATE_OPS = tf.GraphKeys.UPDATE_OPS


# ---- how updates reach the training op -------------------------------------------------------


@case("updates grouped with the training op", styles=ALL_STYLES)
def grouped() -> Net:
    net = network(moments_norm, switch(), before=[])
    together = tf.group(net.train_ops, *tf.get_collection(UPDATE_OPS))
    return net._replace(train_ops=together)


@case("updates grouped, but the inner training op is run", *both("BN101"), alone=[])
def grouped_inner() -> Net:
    net = network(moments_norm, switch(), before=[])
    tf.group(net.train_ops, *tf.get_collection(UPDATE_OPS))
    return net


@case("updates chained to the loss, which gradients do not need", "BN101 bn1")
def chained_to_loss() -> Net:
    images, labels = inputs()
    training = switch()
    x = moments_norm(conv(images, 6, "conv1"), training, "bn1")
    logits = dense(x, 10, "fc2")
    loss = loss_of(labels, logits)
    with tf.control_dependencies(tf.get_collection(UPDATE_OPS)):
        loss = tf.identity(loss)
    return Net(minimize(loss, []), logits, training)


@case("updates chained to the activations")
def chained() -> Net:
    images, labels = inputs()
    training = switch()
    x = moments_norm(conv(images, 6, "conv1"), training, "bn1")
    with tf.control_dependencies(tf.get_collection(UPDATE_OPS)):
        x = tf.identity(x)
    logits = dense(x, 10, "fc2")
    return Net(minimize(loss_of(labels, logits), []), logits, training)


@case("slim's training op: the loss, behind updates and gradients")
def slim_train_op() -> Net:
    images, labels = inputs()
    training = switch()
    logits = dense(moments_norm(conv(images, 6, "conv1"), training, "bn1"), 10, "fc2")
    loss = loss_of(labels, logits)
    with tf.control_dependencies(tf.get_collection(UPDATE_OPS)):
        barrier = tf.no_op(name="update_barrier")
    with tf.control_dependencies([barrier]):
        total = tf.identity(loss)
    step = minimize(total, [])
    with tf.control_dependencies([step]):
        return Net(tf.identity(total, name="train_op"), logits, training)


@case("updates chained after the training op")
def chained_after() -> Net:
    net = network(moments_norm, switch(), before=[])
    with tf.control_dependencies([net.train_ops]), tf.control_dependencies([tf.no_op()]):
        last = tf.group(*[tf.identity(u) for u in tf.get_collection(UPDATE_OPS)])
    return net._replace(train_ops=[net.train_ops, last])


@case("updates run as a second training op", alone=both("BN101"))
def second_op() -> Net:
    net = network(moments_norm, switch(), before=[])
    return net._replace(train_ops=[net.train_ops, *tf.get_collection(UPDATE_OPS)])


def _half(name: str) -> list[Any]:
    return [u for u in tf.get_collection(UPDATE_OPS) if u.name.startswith(name)]


@case("two training ops, each with one layer's updates", alone=["BN101 bn2"])
def two_ops() -> Net:
    net = network(moments_norm, switch(), before=[])
    one, two = tf.group(net.train_ops, *_half("bn1")), tf.group(*_half("bn2"))
    return net._replace(train_ops=[one, two])


@case("two training ops, one layer's updates in neither", "BN101 bn2")
def two_ops_forgotten() -> Net:
    net = network(moments_norm, switch(), before=[])
    return net._replace(train_ops=[tf.group(net.train_ops, *_half("bn1")), tf.no_op()])


@case("the collection was read before the second layer", "BN101 bn2")
def collected_early() -> Net:
    images, labels = inputs()
    training = switch()
    x = moments_norm(conv(images, 6, "conv1"), training, "bn1")
    early = list(tf.get_collection(UPDATE_OPS))
    x = moments_norm(dense(x, 5, "fc1"), training, "bn2")
    logits = dense(x, 10, "fc2")
    return Net(minimize(loss_of(labels, logits), early), logits, training)


# ---- the switch --------------------------------------------------------------------------------


def _static_norm(x: tf.Tensor, training: bool, name: str, fused: bool = False) -> tf.Tensor:
    """A Python switch, as tensorpack and slim have it."""
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        kept = stored(int(x.shape[-1]))
        if not training:
            return tf.nn.batch_normalization(
                x, kept.mean, kept.variance, kept.beta, kept.gamma, 1e-3
            )
        if fused:
            y, mean, variance = tf.nn.fused_batch_norm(x, kept.gamma, kept.beta, epsilon=1e-3)[:3]
        else:
            mean, variance = tf.nn.moments(x, axes_of(x))
            y = tf.nn.batch_normalization(x, mean, variance, kept.beta, kept.gamma, 1e-3)
        for variable, value in ((kept.mean, mean), (kept.variance, variance)):
            tf.add_to_collection(UPDATE_OPS, moving(variable, value))
        return y


@case("switch hard-coded True in the inference graph", *both("BN201", "BN203"), alone=[])
def hard_true() -> Net:
    return network(_static_norm, True)


@case("switch hard-coded True, fused", *both("BN201", "BN203"), alone=[])
def hard_true_fused() -> Net:
    return only_4d(lambda x, t, n: _static_norm(x, t, n, fused=True), True)


@case(
    "switch hard-coded True, updates forgotten",
    *both("BN101", "BN201", "BN203"),
    alone=both("BN101"),
)
def hard_true_forgotten() -> Net:
    return network(_static_norm, True, before=[])


@case("switch hard-coded False, everything trained", *both("BN103"))
def hard_false() -> Net:
    return network(_static_norm, False)


@case(
    "switch is a constant tensor True",
    *both("BN201", "BN203"),
    styles=("resource, v1",),
    alone=[],
)
def constant_true() -> Net:
    return network(moments_norm, tf.constant(True))._replace(is_training=None)


@case("switch is placeholder_with_default", styles=ALL_STYLES)
def with_default() -> Net:
    return network(moments_norm, tf.placeholder_with_default(False, [], name="is_training"))


@case("switch is placeholder_with_default, forgotten", *both("BN101"), styles=ALL_STYLES)
def with_default_forgotten() -> Net:
    return network(
        moments_norm, tf.placeholder_with_default(False, [], name="is_training"), before=[]
    )


@case("switch is an integer placeholder", styles=("resource, v2", "ref, v1"))
def integer_switch() -> Net:
    phase = tf.placeholder(tf.int32, [], name="phase")
    return network(moments_norm, tf.equal(phase, 1))._replace(is_training=phase)


@case("switch is a variable", styles=ALL_STYLES)
def variable_switch() -> Net:
    mode = tf.get_variable("training_mode", initializer=False, trainable=False)
    net = network(moments_norm, tf.identity(mode))
    return net._replace(is_training="training_mode")


@case("switch is the inverse of an input")
def inverse_switch() -> Net:
    test = tf.placeholder(tf.bool, [], name="is_test")
    return network(moments_norm, tf.logical_not(test, name="is_training"))


@case("one layer ignores the switch", "BN201 bn2", "BN203 bn2")
def one_ignores() -> Net:
    images, labels = inputs()
    training = switch()
    x = moments_norm(conv(images, 6, "conv1"), training, "bn1")
    x = _static_norm(dense(x, 5, "fc1"), True, "bn2")
    logits = dense(x, 10, "fc2")
    return Net(minimize(loss_of(labels, logits)), logits, training)


# ---- towers and sharing ----------------------------------------------------------------------


def _towers(update: bool, before: Any = None) -> Net:
    """Training and evaluation graphs that share variables, as tensorpack and slim do."""
    images, labels = inputs()

    def tower(training: bool) -> tf.Tensor:
        x = _static_norm(conv(images, 6, "conv1"), training, "bn1")
        x = _static_norm(dense(tf.nn.relu(x), 5, "fc1"), training, "bn2")
        return dense(x, 10, "fc2")

    loss = loss_of(labels, tower(True))
    if not update:
        tf.get_default_graph().clear_collection(UPDATE_OPS)
    train = minimize(loss, before)
    with tf.name_scope("evaluation"):
        logits = tower(False)
    return Net(train, logits, None)


@case("two towers, shared variables: right", layers=["bn1", "bn2"])
def towers() -> Net:
    return _towers(True)


@case("two towers, updates forgotten", *both("BN101"), layers=["bn1", "bn2"])
def towers_forgotten() -> Net:
    return _towers(True, before=[])


@case("two towers, no updates in the graph", *both("BN102"), layers=["bn1", "bn2"])
def towers_no_updates() -> Net:
    images, labels = inputs()

    def norm(x: tf.Tensor, training: bool, name: str) -> tf.Tensor:
        with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
            kept = stored(int(x.shape[-1]))
            mean, variance = tf.nn.moments(x, axes_of(x))
            if not training:
                mean, variance = kept.mean, kept.variance
            return tf.nn.batch_normalization(x, mean, variance, kept.beta, kept.gamma, 1e-3)

    def tower(training: bool) -> tf.Tensor:
        x = norm(conv(images, 6, "conv1"), training, "bn1")
        return dense(norm(dense(x, 5, "fc1"), training, "bn2"), 10, "fc2")

    train = minimize(loss_of(labels, tower(True)))
    return Net(train, tower(False))


@case("the training tower's logits are used", *both("BN201", "BN203"), alone=[])
def wrong_tower() -> Net:
    net = _towers(True)
    return net._replace(logits="fc2/logits:0")


@case("one layer used twice", layers=["bn1"])
def shared() -> Net:
    images, labels = inputs()
    training = switch()
    one = moments_norm(conv(images, 6, "conv1"), training, "bn1")
    two = moments_norm(conv(tf.reverse(images, [1]), 6, "conv1"), training, "bn1")
    logits = dense(one + two, 10, "fc2")
    return Net(minimize(loss_of(labels, logits)), logits, training)


@case("one layer used twice, forgotten", "BN101 bn1", layers=["bn1"])
def shared_forgotten() -> Net:
    images, labels = inputs()
    training = switch()
    one = moments_norm(conv(images, 6, "conv1"), training, "bn1")
    two = moments_norm(conv(tf.reverse(images, [1]), 6, "conv1"), training, "bn1")
    logits = dense(one + two, 10, "fc2")
    return Net(minimize(loss_of(labels, logits), []), logits, training)


def _gan(d_updates: bool) -> Net:
    training = switch()
    images, _ = inputs((4, 4, 3))
    noise = tf.random_normal([tf.shape(images)[0], 8])

    def generator() -> tf.Tensor:
        x = moments_norm(dense(noise, 12, "g/fc"), training, "g/bn")
        return tf.reshape(tf.tanh(dense(tf.nn.relu(x), 48, "g/out")), [-1, 4, 4, 3])

    def discriminator(x: tf.Tensor) -> tf.Tensor:
        x = moments_norm(conv(x, 6, "d/conv"), training, "d/bn")
        return dense(tf.nn.leaky_relu(x), 1, "d/out")

    fake = generator()
    real_score, fake_score = discriminator(images), discriminator(fake)
    bce = tf.nn.sigmoid_cross_entropy_with_logits
    d_loss = tf.reduce_mean(
        bce(logits=real_score, labels=tf.ones_like(real_score))
        + bce(logits=fake_score, labels=tf.zeros_like(fake_score))
    )
    g_loss = tf.reduce_mean(bce(logits=fake_score, labels=tf.ones_like(fake_score)))

    def of(scope: str) -> dict[str, Any]:
        wanted = [v for v in tf.trainable_variables() if v.name.startswith(scope)]
        return {"var_list": wanted}

    g_step = minimize(g_loss, _half("g/"), **of("g/"))
    d_step = minimize(d_loss, _half("d/") if d_updates else [], **of("d/"))
    return Net([d_step, g_step], fake, training)


@case("GAN: each network's updates with its own step", layers=["g/bn", "d/bn"])
def gan() -> Net:
    return _gan(True)


@case("GAN: the discriminator's updates forgotten", "BN101 d/bn")
def gan_forgotten() -> Net:
    return _gan(False)


@case("GAN: one step alone does not update the other network", "BN101 d/bn", alone=[])
def gan_one_step() -> Net:
    net = _gan(True)
    return net._replace(train_ops=net.train_ops[1])
