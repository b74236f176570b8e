"""tf_slim."""

import sys

import tensorflow.compat.v1 as tf

from support.foreign.pieces import (
    ALWAYS,
    CLASSES,
    FORGOTTEN,
    SHAPES,
    Model,
    dense,
    inputs,
    loss_of,
    minimize,
    optimizer,
    style,
    switched,
    training_switch,
)


def slim_module():
    """tf_slim, with what it looks for in TensorFlow and no longer finds there."""
    from tensorflow.python.framework import ops
    from tensorflow.python.ops import cond, control_flow_ops
    from tf_keras.src import legacy_tf_layers
    from tf_keras.src.legacy_tf_layers import normalization

    ops.Tensor, control_flow_ops.cond = tf.Tensor, cond.cond

    sys.modules["tf_keras.legacy_tf_layers"] = legacy_tf_layers  # see docs/migration.md
    sys.modules["tf_keras.legacy_tf_layers.normalization"] = normalization
    import tf_slim

    return tf_slim


@style("slim_towers", "image")
def slim_towers(fault):
    """A training and an evaluation tower, each with a constant for a switch."""
    slim = slim_module()

    def net(x, is_training, reuse, on_batch=False):
        params = {"is_training": is_training or on_batch, "decay": 0.9, "scale": True}
        with (
            tf.variable_scope("net", reuse=reuse),
            slim.arg_scope(
                [slim.conv2d, slim.fully_connected],
                normalizer_fn=slim.batch_norm,
                normalizer_params=params,
            ),
        ):
            h = slim.max_pool2d(slim.conv2d(x, 8, 3, scope="conv1"), 2)
            h = slim.fully_connected(slim.flatten(h), 16, scope="fc1")
            h = slim.dropout(h, 0.8, is_training=is_training)
            return slim.fully_connected(
                h, CLASSES, activation_fn=None, normalizer_fn=None, scope="logits"
            )

    x, y = inputs("image")
    tests = tf.placeholder(tf.float32, [None, *SHAPES["image"]], name="test_images")
    loss = loss_of(y, net(x, True, None))
    step = tf.train.get_or_create_global_step()
    if fault == FORGOTTEN:
        train_op = optimizer().minimize(loss, step)
    else:
        train_op = slim.learning.create_train_op(loss, optimizer(), step)
    logits = net(tests, False, True, on_batch=fault == ALWAYS)
    return Model(train_op, logits, tests, {x: "x", y: "y"}, {})


@style("slim_own_collection", "vector", FORGOTTEN, v1=True)
def slim_own_collection(fault):
    """Layers whose updates are in a collection of the program's own; not fused."""
    slim = slim_module()
    x, y = inputs("vector")
    training, given = training_switch(fault)
    h = slim.fully_connected(x, 16, activation_fn=None)
    h = slim.batch_norm(
        h,
        decay=0.9,
        is_training=given,
        fused=False,
        updates_collections="bn_updates",
        activation_fn=tf.nn.relu,
    )
    logits = slim.fully_connected(h, CLASSES, activation_fn=None)
    train_op = minimize(loss_of(y, logits), fault, tf.get_collection("bn_updates"))
    return switched(train_op, logits, x, y, training)


@style("slim_in_branches", "vector", FORGOTTEN, v1=True)
def slim_in_branches(fault):
    """A layer in both branches of tf.cond, the second reusing the first's variables."""
    slim = slim_module()
    x, y = inputs("vector")
    training = tf.placeholder(tf.bool, [], name="phase_train")

    def norm(h, name):
        kept = {"decay": 0.9, "scope": name, "scale": True}
        if fault != FORGOTTEN:
            kept["updates_collections"] = None  # in place
        return tf.cond(
            training,
            lambda: slim.batch_norm(h, is_training=True, reuse=None, **kept),
            lambda: slim.batch_norm(h, is_training=False, reuse=True, **kept),
        )

    h = tf.nn.relu(norm(dense(x, 16, "fc1"), "bn1"))
    logits = dense(h, CLASSES, "fc2")
    return switched(minimize(loss_of(y, logits), fault, []), logits, x, y, training)
