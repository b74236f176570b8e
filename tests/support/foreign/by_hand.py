"""Normalisations written by hand."""

import tensorflow.compat.v1 as tf

from support.foreign.pieces import (
    ALWAYS,
    CLASSES,
    FORGOTTEN,
    RIGHT,
    UPDATE_OPS,
    Model,
    dense,
    inputs,
    loss_of,
    minimize,
    style,
    switched,
)


def by_hand(norm, fault, variable=None):
    """Two dense layers, each normalised by `norm(x, training, name)`; `variable` may switch it."""
    x, y = inputs("vector")
    training = tf.placeholder(tf.bool, [], name="is_training") if variable is None else variable
    h = tf.nn.relu(norm(dense(x, 16, "fc1"), training, "bn1"))
    h = tf.nn.relu(norm(dense(h, 16, "fc2"), training, "bn2"))
    logits = dense(h, CLASSES, "fc3")
    train_op = minimize(loss_of(y, logits), fault)
    if variable is None:
        return switched(train_op, logits, x, y, training)
    return Model(train_op, logits, x, {x: "x", y: "y"}, {}, switch=variable)


def affine(x, mean, variance):
    size = [int(x.shape[-1])]
    beta = tf.get_variable("beta", size, initializer=tf.zeros_initializer())
    gamma = tf.get_variable("gamma", size, initializer=tf.ones_initializer())
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)


def shadowed(fault, **kwargs):
    """Moments averaged by an ExponentialMovingAverage, in the collection of updates."""

    def norm(x, training, name):
        with tf.variable_scope(name):
            mean, variance = tf.nn.moments(x, [0], name="moments")
            ema = tf.train.ExponentialMovingAverage(0.9, **kwargs)
            tf.add_to_collection(UPDATE_OPS, ema.apply([mean, variance]))
            if fault != ALWAYS:
                batch = (mean, variance)
                mean, variance = tf.cond(
                    training,
                    lambda: tuple(map(tf.identity, batch)),
                    lambda: tuple(tf.identity(ema.average(m)) for m in batch),
                )
            return affine(x, mean, variance)

    return by_hand(norm, fault)


@style("ema_cond", "vector", FORGOTTEN, ALWAYS)
def ema_cond(fault):
    return shadowed(fault)


@style("ema_zero_debias", "vector", RIGHT, FORGOTTEN)
def ema_zero_debias(fault):
    return shadowed(fault, zero_debias=True)


@style("pop_assigns", "vector", v1=True)
def pop_assigns(fault):
    """pop_mean and pop_var assigned by hand, reference variables, a variable for a switch."""
    training = tf.Variable(True, trainable=False, name="train_mode")

    def norm(x, training, name):
        with tf.variable_scope(name):
            size = [int(x.shape[-1])]
            pop_mean = tf.Variable(tf.zeros(size), trainable=False, name="pop_mean")
            pop_var = tf.Variable(tf.ones(size), trainable=False, name="pop_var")
            mean, variance = tf.nn.moments(x, [0])
            updates = [
                tf.assign(pop_mean, pop_mean * 0.9 + mean * 0.1),
                tf.assign(pop_var, pop_var * 0.9 + variance * 0.1),
            ]
            for update in updates:
                tf.add_to_collection(UPDATE_OPS, update)
            if fault != ALWAYS:
                batch = (mean, variance)
                mean, variance = tf.cond(
                    training,
                    lambda: tuple(map(tf.identity, batch)),
                    lambda: (tf.identity(pop_mean), tf.identity(pop_var)),
                )
            return affine(x, mean, variance)

    return by_hand(norm, fault, training)


@style("moments_only", "vector", ALWAYS)
def moments_only(fault):
    """No averages at all."""

    def norm(x, training, name):
        with tf.variable_scope(name):
            return affine(x, *tf.nn.moments(x, [0]))

    return by_hand(norm, fault)
