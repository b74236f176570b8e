"""Finds averages that inference reads and that no Saver of the graph saves.

The graph holds the operations of a tf.train.Saver, and the layer's moving averages are in none of
them.

Why it is bad:
A model that is restored from such a checkpoint normalises with initial values, or cannot be
restored at all. A Saver was given the trainable variables, and moving averages are not trainable.

Faulty:
    x = tf.placeholder(tf.float32, [None, 8])
    is_training = tf.placeholder(tf.bool, [])
    y = tf.layers.batch_normalization(x, training=is_training)
    logits = tf.layers.dense(y, 1)
    loss = tf.reduce_mean(tf.square(logits - 1.0))
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = tf.train.AdamOptimizer().minimize(loss)
    saver = tf.train.Saver(tf.trainable_variables())

Mended:
    x = tf.placeholder(tf.float32, [None, 8])
    is_training = tf.placeholder(tf.bool, [])
    y = tf.layers.batch_normalization(x, training=is_training)
    logits = tf.layers.dense(y, 1)
    loss = tf.reduce_mean(tf.square(logits - 1.0))
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = tf.train.AdamOptimizer().minimize(loss)
    saver = tf.train.Saver()
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alexnet_tf1.batchnorm.rules.registry import rule
from alexnet_tf1.batchnorm.rules.wording import SAVE_ALL, is_or_are

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.layers.layer import Layer
    from alexnet_tf1.batchnorm.rules.evidence import Evidence


@rule("BN301", needs="saving")
def not_saved(layer: Layer, evidence: Evidence) -> str | None:
    """Names the averages that are left out."""
    saved = set(evidence.saved.values())
    left_out = [v for v in evidence.inferred_with(layer) if v not in saved]
    if not saved or not left_out:
        return None
    return (
        f"{evidence.names(left_out)} {is_or_are(left_out)} read in inference and saved by no "
        f"tf.train.Saver of the graph; {SAVE_ALL}"
    )
