"""Corpus, part 5: towers that share variables, graphs that only train, steps of several ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow.compat.v1 as tf

from corpus.cases import (
    ALL_STYLES,
    Net,
    case,
    conv,
    dense,
    inputs,
    loss_of,
    minimize,
    moments_norm,
    switch,
)
from corpus.networks import _static_norm
from corpus.single import both, network

UPDATE_OPS = tf.GraphKeys.UPDATE_OPS
Norm = Callable[[tf.Tensor, Any, str], tf.Tensor]


def fused_static(x: tf.Tensor, training: bool, name: str) -> tf.Tensor:
    """Slim's: fused on images, the switch a Python bool."""
    return _static_norm(x, training, name, fused=len(x.shape) == 4)


# ---- a training tower and a test tower that share variables ------------------------------------


def tower(images: tf.Tensor, training: Any, norm: Norm) -> tf.Tensor:
    x = tf.nn.relu(norm(conv(images, 6, "conv1"), training, "bn1"))
    x = tf.nn.relu(norm(dense(x, 5, "fc1"), training, "bn2"))
    return dense(x, 10, "fc2")


def two_towers(
    norm: Norm, train: Any = True, test: Any = False, before: Any = None, build: Any = tower
) -> Net:
    """Both towers with their loss and accuracy, as a TF1 script has them."""
    images, labels = inputs()
    tests = tf.placeholder(tf.float32, [None, 4, 4, 3], name="test_images")
    truth = tf.placeholder(tf.int64, [None], name="test_labels")
    loss = loss_of(labels, build(images, train, norm))
    with tf.name_scope("test"):
        logits = build(tests, test, norm)
        loss_of(truth, logits)
        tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), truth), tf.float32))
    if before is None:  # those of the training tower; there are no others with a constant
        before = [u for u in tf.get_collection(UPDATE_OPS) if not u.name.startswith("test/")]
    return Net(minimize(loss, before), logits)


@case("two towers, a constant each", layers=["bn1", "bn2"], styles=ALL_STYLES)
def tower_constants() -> Net:
    return two_towers(fused_static)


@case("two towers, a constant each, forgotten", *both("BN101"), styles=ALL_STYLES)
def tower_constants_forgotten() -> Net:
    return two_towers(fused_static, before=[])


@case("two towers, both built for training", *both("BN201", "BN203"), styles=ALL_STYLES)
def tower_constants_both_training() -> Net:
    return two_towers(fused_static, test=True)


def a_placeholder_each() -> list[tf.Tensor]:
    return [tf.placeholder(tf.bool, [], name=name) for name in ("train_phase", "valid_phase")]


@case("two towers, a placeholder each", layers=["bn1", "bn2"], styles=ALL_STYLES)
def tower_placeholders() -> Net:
    switches = a_placeholder_each()
    return two_towers(moments_norm, *switches)._replace(is_training=switches)


@case("two towers, a placeholder each, forgotten", *both("BN101"), styles=ALL_STYLES)
def tower_placeholders_forgotten() -> Net:
    switches = a_placeholder_each()
    return two_towers(moments_norm, *switches, before=[])._replace(is_training=switches)


def _template(norm: Norm) -> Any:
    """One tf.make_template, called for each tower."""

    def build(images: tf.Tensor, training: bool, _: Norm) -> tf.Tensor:
        x = tf.reshape(images, [-1, 48])
        x = tf.nn.relu(norm(dense(x, 6, "fc0"), training, "bn1"))
        return dense(norm(dense(x, 5, "fc1"), training, "bn2"), 10, "fc2")

    return tf.make_template("net", build)


def in_net(*rules: str) -> list[str]:
    return [f"{rule} net/{layer}" for layer in ("bn1", "bn2") for rule in rules]


@case("two towers of tf.make_template", layers=["net/bn1", "net/bn2"], styles=ALL_STYLES)
def template() -> Net:
    return two_towers(_static_norm, build=_template(_static_norm))


@case("two towers of tf.make_template, forgotten", *in_net("BN101"), styles=ALL_STYLES)
def template_forgotten() -> Net:
    return two_towers(_static_norm, build=_template(_static_norm), before=[])


@case("two towers, the test tower first", layers=["bn1", "bn2"])
def test_tower_first() -> Net:
    images, labels = inputs()
    with tf.name_scope("test"):
        logits = tower(images, False, fused_static)
    return Net(minimize(loss_of(labels, tower(images, True, fused_static))), logits)


@case(
    "a switch for the training tower, one layer of the test tower built for training",
    "BN201 bn2",
    "BN203 bn2",
    alone=["BN201 bn2"],  # the other tower reads the averages
)
def one_layer_of_the_test_tower() -> Net:
    images, labels = inputs()
    training = switch()

    def test_norm(x: tf.Tensor, unused: bool, name: str) -> tf.Tensor:
        return _static_norm(x, name == "bn2", name)

    loss = loss_of(labels, tower(images, training, moments_norm))
    with tf.name_scope("test"):
        logits = tower(images, False, test_norm)
    updates = [u for u in tf.get_collection(UPDATE_OPS) if not u.name.startswith("test/")]
    return Net(minimize(loss, updates), logits, training)


# ---- graphs that only train --------------------------------------------------------------------


@case("an Estimator's training graph", *both("BN201", "BN203"), alone=[])
def training_graph() -> Net:
    return network(fused_static, True)


@case(
    "an Estimator's training graph, forgotten",
    *both("BN101", "BN201", "BN203"),
    alone=both("BN101"),
)
def training_graph_forgotten() -> Net:
    return network(fused_static, True, before=[])


@case("a training graph with a frozen layer", "BN201 bn2", "BN203 bn2", alone=[])
def training_graph_frozen() -> Net:
    return network(lambda x, t, name: _static_norm(x, name == "bn2", name), True)


# ---- training steps of several operations ------------------------------------------------------


def _accumulated(updates_with: str) -> Net:
    """Gradients added up in one operation and applied in another."""
    images, labels = inputs()
    training = switch()
    logits = tower(images, training, moments_norm)
    optimizer = tf.train.AdamOptimizer(1e-3)
    pairs = optimizer.compute_gradients(loss_of(labels, logits))
    sums = [
        tf.get_variable(f"sum{k}", v.shape, initializer=tf.zeros_initializer(), trainable=False)
        for k, (_, v) in enumerate(pairs)
    ]
    updates = tf.get_collection(UPDATE_OPS)
    with tf.control_dependencies(updates if updates_with == "sum" else []):
        adds = [tf.assign_add(s, g) for s, (g, _) in zip(sums, pairs, strict=True)]
    add = tf.group(*adds, name="accumulate")
    tf.group(*[tf.assign(s, tf.zeros_like(s)) for s in sums], name="zero")
    apply = optimizer.apply_gradients(
        [(s / 4.0, v) for s, (_, v) in zip(sums, pairs, strict=True)], name="apply"
    )
    return Net([add, apply], logits, training)


@case("gradients added up over batches", layers=["bn1", "bn2"], styles=ALL_STYLES)
def accumulated() -> Net:
    return _accumulated("sum")


@case("gradients added up over batches, forgotten", *both("BN101"), styles=ALL_STYLES)
def accumulated_forgotten() -> Net:
    return _accumulated("nothing")


def _conditional_accumulator(before: Any) -> Net:
    """As SyncReplicasOptimizer: gradients go through an accumulator that is no variable."""
    images, labels = inputs()
    training = switch()
    logits = tower(images, training, moments_norm)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    with tf.control_dependencies(tf.get_collection(UPDATE_OPS) if before is None else before):
        pairs = optimizer.compute_gradients(loss_of(labels, logits))
        held = [tf.ConditionalAccumulator(tf.float32, shape=v.shape) for _, v in pairs]
        # Of the latest step: an accumulator drops what is older than what was taken of it last.
        adds = [a.apply_grad(g, tf.int64.max) for a, (g, _) in zip(held, pairs, strict=True)]
    add = tf.group(*adds, name="send")
    taken = [(a.take_grad(1), v) for a, (_, v) in zip(held, pairs, strict=True)]
    return Net([add, optimizer.apply_gradients(taken, name="chief")], logits, training)


@case("gradients through conditional accumulators", styles=("resource, v2", "ref, v1"))
def accumulators() -> Net:
    return _conditional_accumulator(None)


@case("gradients through conditional accumulators, forgotten", *both("BN101"))
def accumulators_forgotten() -> Net:
    return _conditional_accumulator([])
