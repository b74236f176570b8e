"""What the styles are made of: their examples, ends and common pieces.

The faults: `right` has none; `forgotten` never runs its updates; `always` normalises with the
batch in inference too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

STEPS, BATCH, EXAMPLES, CLASSES = 100, 32, 512, 4
UPDATE_OPS = tf.GraphKeys.UPDATE_OPS
RIGHT, FORGOTTEN, ALWAYS = "right", "forgotten", "always"


class Model(NamedTuple):
    """A graph's ends."""

    train_op: Any
    logits: Any  # of inference
    examples: Any  # tensor that inference is fed with
    training: dict  # what a training step feeds: "x", "y" for arrays, else the value
    inference: dict  # what inference feeds besides the examples
    batch_mode: dict | None = None  # the same for batch statistics; None where nothing switches it
    switch: Any = None  # variable to hold at False in inference and at True in training


class Style(NamedTuple):
    """A way of writing a model."""

    name: str
    kind: str  # of inputs: "vector", "image", "noise"
    faults: tuple[str, ...]
    build: Callable[[str], Model]
    v1: bool  # control flow and variables of the first generation


STYLES: list[Style] = []


def style(name, kind, *faults, v1=False):
    def register(build):
        STYLES.append(Style(name, kind, faults or (RIGHT, FORGOTTEN, ALWAYS), build, v1))
        return build

    return register


SHAPES = {"vector": [8], "image": [6, 6, 2], "noise": [6]}


def examples(kind, seed=0):
    """Inputs, float32 [512, ...]; classes, int64 [512], or for a generator points, [512, 4]."""
    draw = np.random.RandomState(seed)
    shape = SHAPES[kind]
    if kind == "noise":  # a generator's, and points like those that it learns to make
        points = draw.normal([3, -2, 1, 0], [1, 0.5, 2, 1], [EXAMPLES, 4])
        return draw.normal(size=[EXAMPLES, 6]).astype(np.float32), points.astype(np.float32)
    labels = draw.randint(0, CLASSES, EXAMPLES)
    patterns = np.random.RandomState(7).normal(size=[CLASSES, *shape])
    x = 100 + 5 * (patterns[labels] + draw.normal(0, 0.3, [EXAMPLES, *shape]))
    return x.astype(np.float32), labels.astype(np.int64)


def inputs(kind):
    x = tf.placeholder(tf.float32, [None, *SHAPES[kind]], name="x")
    return x, tf.placeholder(tf.int64, [None], name="y")


def dense(x, units, name):
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        kernel = tf.get_variable("kernel", [int(x.shape[-1]), units])
        bias = tf.get_variable("bias", [units], initializer=tf.zeros_initializer())
    return tf.nn.bias_add(tf.matmul(x, kernel), bias)


def loss_of(y, logits):
    return tf.losses.sparse_softmax_cross_entropy(y, logits)


def optimizer(**kwargs):
    """Adam, slower and slower, so that the averages of a right model catch up."""
    step = tf.train.get_or_create_global_step()
    return tf.train.AdamOptimizer(tf.train.polynomial_decay(0.01, step, STEPS, 1e-4), **kwargs)


def minimize(loss, fault, updates=None):
    """An optimiser's step: after the updates, unless these are forgotten."""
    updates = tf.get_collection(UPDATE_OPS) if updates is None else updates
    with tf.control_dependencies([] if fault == FORGOTTEN else updates):
        return optimizer().minimize(loss, tf.train.get_or_create_global_step())


def training_switch(fault):
    """A placeholder, and what the layers are given."""
    training = tf.placeholder(tf.bool, [], name="is_training")
    return training, True if fault == ALWAYS else training


def switched(train_op, logits, x, y, training, **constants):
    """A model that a placeholder switches; `constants`: name=(in training, in inference)."""
    graph = tf.get_default_graph()
    kept = {graph.get_tensor_by_name(f"{k}:0"): v for k, v in constants.items()}
    return Model(
        train_op,
        logits,
        x,
        {x: "x", y: "y", training: True, **{k: v[0] for k, v in kept.items()}},
        {training: False, **{k: v[1] for k, v in kept.items()}},
        {training: True, **{k: v[1] for k, v in kept.items()}},
    )
