"""Finds layers that normalise with the batch's own statistics in inference.

With the training switch at inference the logits still depend on the mean or the variance of the
batch that they are computed for.

Why it is bad:
The answer for one example depends on the other examples of its batch. A single example is
normalised by itself, often to a constant, and a batch that is mixed otherwise than in training, for
example sorted by class, gets worse answers.

Faulty:
    x = tf.placeholder(tf.float32, [None, 8])
    y = tf.layers.batch_normalization(x, training=True)
    logits = tf.layers.dense(y, 1)
    loss = tf.reduce_mean(tf.square(logits - 1.0))
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = tf.train.AdamOptimizer().minimize(loss)

Mended:
    x = tf.placeholder(tf.float32, [None, 8])
    is_training = tf.placeholder_with_default(False, [])
    y = tf.layers.batch_normalization(x, training=is_training)
    logits = tf.layers.dense(y, 1)
    loss = tf.reduce_mean(tf.square(logits - 1.0))
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = tf.train.AdamOptimizer().minimize(loss)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alexnet_tf1.batchnorm.graph.node import Tensor
from alexnet_tf1.batchnorm.graph.ops import fused_is_training, is_fused
from alexnet_tf1.batchnorm.rules.registry import rule

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.layers.layer import Layer
    from alexnet_tf1.batchnorm.rules.evidence import Evidence


@rule("BN201", needs="inference")
def batch_statistics_in_inference(layer: Layer, evidence: Evidence) -> str | None:
    """Names the operation that normalises with the batch, and the averages to use instead."""
    read = evidence.read
    for site in layer.sites:
        node = evidence.provenance.nodes[site.node]
        fused = is_fused(node.op) and fused_is_training(node)
        if (fused and Tensor(node.id, 0) in read) or any(m in read for m in site.moments):
            if layer.averages:
                names = evidence.names(layer.averages)
                remedy = f"normalise with {names} when is_training is False"
            else:
                remedy = (
                    "keep moving averages of the batch moments and normalise with them when "
                    "is_training is False"
                )
            return (
                f"logits depend on the batch's own statistics in inference ({node.name}); {remedy}"
            )
    return None
