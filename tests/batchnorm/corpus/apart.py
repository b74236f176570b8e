"""Corpus, part 11: layers that training does not normalise with, and what keeps them up to date."""

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
from corpus.frozen import stored_norm
from corpus.networks import _static_norm
from corpus.single import both, network

# ---- target networks -----------------------------------------------------------------------


def actor(x: tf.Tensor, training: Any, scope: str) -> tf.Tensor:
    norm = stored_norm if training is False else moments_norm
    with tf.variable_scope(scope):
        x = tf.nn.relu(norm(dense(x, 5, "fc1"), training, "bn"))
        return tf.nn.tanh(dense(x, 2, "fc2"))


def copied(averages: bool, rate: float = 0.1) -> list[Any]:
    """A soft update of the target network, of all its variables or of the trainable ones."""
    found = tf.global_variables() if averages else tf.trainable_variables()
    found = [v for v in found if "Adam" not in v.op.name]
    ours, theirs = ([v for v in found if v.op.name.startswith(s)] for s in ("online/", "target/"))
    return [tf.assign(b, rate * a + (1.0 - rate) * b) for a, b in zip(ours, theirs, strict=True)]


def target_in_the_loss(averages: bool, one_op: bool) -> Net:
    """The target network's answer is what the online one learns, so that training runs both."""
    images, _ = inputs()
    training = switch()
    online, target = actor(images, training, "online"), actor(images, False, "target")
    loss = tf.reduce_mean(tf.square(online - tf.stop_gradient(0.9 * target)))
    train = minimize(loss)
    with tf.control_dependencies([train] if one_op else []):
        soft = tf.group(*copied(averages), name="soft_update")
    return Net(soft if one_op else [train, soft], online, training)


@case("a target network in the loss, copied whole", styles=ALL_STYLES)
def target_copied() -> Net:
    return target_in_the_loss(averages=True, one_op=False)


@case(
    "a target network in the loss, its averages left out of the copy",
    "BN102 target/bn",
    styles=ALL_STYLES,
)
def target_left_behind() -> Net:
    return target_in_the_loss(averages=False, one_op=False)


@case("a target network copied whole by the training op")
def target_copied_in_a_step() -> Net:
    return target_in_the_loss(averages=True, one_op=True)


@case("a target network whose averages the training op leaves out", "BN102 target/bn")
def target_left_behind_in_a_step() -> Net:
    return target_in_the_loss(averages=False, one_op=True)


def target_apart(averages: bool) -> Net:
    """The target network acts alone; training does not run it."""
    images, _ = inputs()
    wanted = tf.placeholder(tf.float32, [None, 2], name="wanted")
    training = switch()
    online, target = actor(images, training, "online"), actor(images, False, "target")
    train = minimize(tf.reduce_mean(tf.square(online - wanted)))
    return Net([train, *copied(averages)], [online, target], training)


@case("a target network apart, copied whole")
def apart_copied() -> Net:
    return target_apart(averages=True)


@case("a target network apart, its averages left out of the copy", "BN102 target/bn")
def apart_left_behind() -> Net:
    return target_apart(averages=False)


def generator_averages(updates: bool) -> Net:
    """Only the copy of a network that trains on its batches ever infers."""
    images, labels = inputs()

    def network(scope: str, norm: Any, training: bool) -> tf.Tensor:
        with tf.variable_scope(scope):
            x = norm(dense(images, 5, "fc1"), training, "bn")
            return dense(tf.nn.relu(x), 10, "fc2")

    online = network("online", _static_norm, True)
    target = network("target", stored_norm, False)
    train = minimize(loss_of(labels, online), None if updates else [])
    return Net([train, *copied(averages=True)], target)


@case("the copy of a network that only trains infers")
def copy_infers() -> Net:
    return generator_averages(updates=True)


@case("the copy of a network that never updates its averages infers", "BN101 online/bn")
def copy_infers_forgotten() -> Net:
    return generator_averages(updates=False)


# ---- towers that do not share their averages -----------------------------------------------


def fresh_norm(x: tf.Tensor, training: bool, name: str) -> tf.Tensor:
    """Averages made by tf.Variable: each call makes new ones, reuse or not."""
    size = int(x.shape[-1])
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        gamma = tf.get_variable("gamma", [size], initializer=tf.ones_initializer())
        beta = tf.get_variable("beta", [size], initializer=tf.zeros_initializer())
        kept = [
            tf.Variable(tf.fill([size], start), trainable=False, name=n)
            for n, start in (("pop_mean", 0.0), ("pop_var", 1.0))
        ]
        if not training:
            return tf.nn.batch_normalization(x, *kept, beta, gamma, 1e-3)
        batch = tf.nn.moments(x, list(range(len(x.shape) - 1)))
        updates = [tf.assign(v, 0.9 * v + 0.1 * m) for v, m in zip(kept, batch, strict=True)]
        with tf.control_dependencies(updates):
            return tf.nn.batch_normalization(x, *map(tf.identity, batch), beta, gamma, 1e-3)


def two_towers(norm: Any, scopes: tuple[str, str], whole: bool = False) -> Net:
    """A training tower and a test tower; `whole` puts all of each in a scope of its own."""
    images, labels = inputs()
    tests = tf.placeholder(tf.float32, [None, 4, 4, 3], name="test_images")
    found = []
    for x, training, scope in ((images, True, scopes[0]), (tests, False, scopes[1])):
        with tf.variable_scope(scope if whole else "net", reuse=tf.AUTO_REUSE):
            x = conv(x, 6, "conv1")
            x = norm(x, training, "bn1" if whole else f"{scope}/bn1")
            found.append(dense(tf.nn.relu(x), 10, "fc2"))
    return Net(minimize(loss_of(labels, found[0])), found[1])


def tower_norm(x: tf.Tensor, training: bool, name: str) -> tf.Tensor:
    return (_static_norm if training else stored_norm)(x, training, name)


@case("two towers that share a scope", layers=["net/tower/bn1"], styles=ALL_STYLES)
def towers_share() -> Net:
    return two_towers(tower_norm, ("tower", "tower"))


@case("two towers, their norms in two scopes", "BN102 net/test/bn1", styles=ALL_STYLES)
def towers_in_two_scopes() -> Net:
    return two_towers(tower_norm, ("train", "test"))


@case("two towers, each call with its own tf.Variable", "BN102 net_1/tower/bn1")
def towers_with_fresh_averages() -> Net:
    return two_towers(fresh_norm, ("tower", "tower"))


def separate_towers() -> Net:
    """Nothing shared: the test tower is never trained, unless it is restored from elsewhere."""
    return two_towers(tower_norm, ("train", "test"), whole=True)


@case("two towers with nothing in common")
def towers_apart() -> Net:
    return separate_towers()


@case("a scorer of the same form, restored and run apart", layers=["train/bn1", "test/bn1"])
def teacher() -> Net:
    net = separate_towers()
    tf.train.Saver([v for v in tf.global_variables() if v.op.name.startswith("test/")])  # restores
    tf.train.Saver()
    return net


# ---- averages of the weights ---------------------------------------------------------------


@case("weights averaged for the test tower, the layer's averages shared", styles=ALL_STYLES)
def weight_averages() -> Net:
    return averaged_weights(shared=True)


@case(
    "weights averaged for the test tower, which has averages of its own",
    "BN102 shadow/bn",
    styles=ALL_STYLES,
)
def weight_averages_apart() -> Net:
    return averaged_weights(shared=False)


def averaged_weights(shared: bool) -> Net:
    images, labels = inputs()
    with tf.variable_scope("net"):
        logits = dense(tf.nn.relu(_static_norm(dense(images, 5, "fc1"), True, "bn")), 10, "fc2")
    train = minimize(loss_of(labels, logits))
    averages = tf.train.ExponentialMovingAverage(0.99)
    with tf.control_dependencies([train]):
        train = averages.apply(tf.trainable_variables())
    value = {v.op.name: averages.average(v) for v in tf.trainable_variables()}
    kept = {v.op.name: v for v in tf.global_variables()}
    x = tf.reshape(images, [-1, 48])
    x = tf.matmul(x, value["net/fc1/kernel"]) + value["net/fc1/bias"]
    if shared:
        mean, variance = kept["net/bn/moving_mean"], kept["net/bn/moving_variance"]
    else:
        with tf.variable_scope("shadow/bn"):
            mean, variance = stored(5)[:2]
    x = tf.nn.batch_normalization(
        x, mean, variance, value["net/bn/beta"], value["net/bn/gamma"], 1e-3
    )
    x = tf.matmul(tf.nn.relu(x), value["net/fc2/kernel"]) + value["net/fc2/bias"]
    return Net(train, tf.identity(x, name="averaged"))


# ---- averages that training normalises with ------------------------------------------------


def averaged_norm(x: tf.Tensor, name: str, wait: bool) -> tf.Tensor:
    """Normalised by its running averages in training as well; updates in no collection."""
    with tf.variable_scope(name):
        kept = stored(int(x.shape[-1]))
        mean, variance = tf.nn.moments(x, axes_of(x))
        updates = [moving(kept.mean, mean), moving(kept.variance, variance)]
        y = tf.nn.batch_normalization(x, kept.mean, kept.variance, kept.beta, kept.gamma, 1e-3)
        with tf.control_dependencies(updates if wait else []):
            return tf.identity(y)


@case("trains on its averages, the updates nowhere", *both("BN101"), styles=ALL_STYLES)
def updates_nowhere() -> Net:
    return network(lambda x, _, name: averaged_norm(x, name, wait=False), None)


@case("trains on its averages, and its result waits", *both("BN202"), styles=ALL_STYLES)
def updates_waited_for() -> Net:
    return network(lambda x, _, name: averaged_norm(x, name, wait=True), None)


# ---- moments of weighted examples ----------------------------------------------------------


def weighted_norm(x: tf.Tensor, training: Any, weights: tf.Tensor, run: bool) -> tf.Tensor:
    """Normalised by moments in which examples count differently: a mask's or an attention's."""
    with tf.variable_scope("bn1"):
        kept = stored(int(x.shape[-1]))
    batch = tf.nn.weighted_moments(x, [0], tf.broadcast_to(weights, tf.shape(x)))
    updates = [moving(v, m) for v, m in zip((kept.mean, kept.variance), batch, strict=True)]
    used = tf.cond(
        training,
        lambda: [tf.identity(m) for m in batch],
        lambda: [tf.identity(v) for v in (kept.mean, kept.variance)],
    )
    if run:
        for update in updates:
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
    return tf.nn.batch_normalization(x, *used, kept.beta, kept.gamma, 1e-3)


def weighted(attention: bool, run: bool) -> Net:
    images, labels = inputs()
    training = switch()
    weights = tf.placeholder(tf.float32, [None, 1], name="mask")
    if attention:
        weights = tf.sigmoid(dense(images, 1, "attention"))
    x = weighted_norm(dense(images, 5, "fc1"), training, weights, run)
    logits = dense(tf.nn.relu(x), 10, "fc2")
    return Net(minimize(loss_of(labels, logits)), logits, training)


@case("masked examples, updates collected", styles=ALL_STYLES)
def masked() -> Net:
    return weighted(attention=False, run=True)


@case("masked examples, updates forgotten", "BN101 bn1", styles=ALL_STYLES)
def masked_forgotten() -> Net:
    return weighted(attention=False, run=False)


@case("examples weighted by the network, updates collected", styles=ALL_STYLES)
def attended() -> Net:
    return weighted(attention=True, run=True)


@case("examples weighted by the network, updates forgotten", "BN101 bn1", styles=ALL_STYLES)
def attended_forgotten() -> Net:
    return weighted(attention=True, run=False)


# ---- a loop that trains --------------------------------------------------------------------


@case("three steps in a loop, each after the updates", styles=ALL_STYLES)
def steps_in_a_loop() -> Net:
    return training_loop(wait=True)


@case("three steps in a loop, which prunes the updates", "BN101 net/bn1", styles=ALL_STYLES[1:])
def steps_that_prune() -> Net:
    return training_loop(wait=False)


def training_loop(wait: bool) -> Net:
    """What nothing in a loop of the first generation waits for is not run, nor can be fetched."""
    images, labels = inputs()

    def norm(x: tf.Tensor, training: bool, update: bool) -> tf.Tensor:
        with tf.variable_scope("bn1", reuse=tf.AUTO_REUSE):
            kept = stored(5)
        if not training:
            return tf.nn.batch_normalization(x, *kept[:2], kept.beta, kept.gamma, 1e-3)
        batch = tf.nn.moments(x, [0])
        updates = [moving(v, m) for v, m in zip(kept[:2], batch, strict=True)]
        with tf.control_dependencies(updates if update else []):
            return tf.identity(tf.nn.batch_normalization(x, *batch, kept.beta, kept.gamma, 1e-3))

    def network(training: bool) -> tf.Tensor:
        with tf.variable_scope("net"):
            return dense(tf.nn.relu(norm(dense(images, 5, "fc1"), training, wait)), 10, "fc2")

    logits = network(False)
    variables = tf.trainable_variables()

    def step(count: tf.Tensor) -> tf.Tensor:
        gradients = tf.gradients(loss_of(labels, network(True)), variables)
        optimizer = tf.train.GradientDescentOptimizer(0.1)
        with tf.control_dependencies(
            [optimizer.apply_gradients(zip(gradients, variables, strict=True))]
        ):
            return count + 1

    return Net(tf.while_loop(lambda count: count < 3, step, [tf.constant(0)]), logits)
