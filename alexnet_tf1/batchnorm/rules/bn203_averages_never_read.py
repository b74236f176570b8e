"""Finds moving averages that are kept and that inference never reads.

The layer updates moving averages of its batch moments, the logits pass through the layer, and no
logit depends on the averages.

Why it is bad:
Inference normalises with something else, mostly with the batch: the averages cost time in every
step, suggest that the layer is in order, and are of no use.

Faulty:
    x = tf.placeholder(tf.float32, [None, 8])
    mean, variance = tf.nn.moments(x, [0])
    averages = tf.train.ExponentialMovingAverage(0.9)
    update = averages.apply([mean, variance])
    y = tf.nn.batch_normalization(x, mean, variance, None, None, variance_epsilon=1e-3)
    logits = tf.layers.dense(y, 1)
    loss = tf.reduce_mean(tf.square(logits - 1.0))
    with tf.control_dependencies([update]):
        train_op = tf.train.AdamOptimizer().minimize(loss)

Mended:
    x = tf.placeholder(tf.float32, [None, 8])
    is_training = tf.placeholder_with_default(False, [])
    mean, variance = tf.nn.moments(x, [0])
    averages = tf.train.ExponentialMovingAverage(0.9)
    update = averages.apply([mean, variance])
    kept = [averages.average(mean), averages.average(variance)]
    used = tf.cond(is_training, lambda: [mean, variance], lambda: [tf.identity(v) for v in kept])
    y = tf.nn.batch_normalization(x, *used, offset=None, scale=None, variance_epsilon=1e-3)
    logits = tf.layers.dense(y, 1)
    loss = tf.reduce_mean(tf.square(logits - 1.0))
    with tf.control_dependencies([update]):
        train_op = tf.train.AdamOptimizer().minimize(loss)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alexnet_tf1.batchnorm.rules.registry import rule
from alexnet_tf1.batchnorm.rules.wording import is_or_are, it_or_them

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.layers.layer import Layer
    from alexnet_tf1.batchnorm.rules.evidence import Evidence


@rule("BN203", needs="inference")
def averages_never_read(layer: Layer, evidence: Evidence) -> str | None:
    """Names the averages that inference does not use."""
    if not evidence.infers(layer):
        return None
    kept = [v for v in layer.averages if v in layer.updates]
    unread = [v for v in kept if v not in evidence.read_variables]
    if len(unread) < len(kept):
        # What training reads to correct its statistics (batch renormalisation) is of use.
        corrections = {v for site in layer.sites for v in site.affine}
        unread = [v for v in unread if v not in corrections]
    if not unread:
        return None
    return (
        f"{evidence.names(unread)} {is_or_are(unread)} kept and inference never reads "
        f"{it_or_them(unread)}; normalise with {it_or_them(unread)} when is_training is False"
    )
