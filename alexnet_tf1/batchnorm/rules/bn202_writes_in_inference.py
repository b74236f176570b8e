"""Finds moving averages that computing the logits in inference changes.

The update of the averages runs in every forward pass and not in training only, usually because the
logits wait for it, or because it is built outside of the branch that training takes.

Why it is bad:
Evaluating a model changes it: the averages drift towards the test data, the second evaluation gives
another answer than the first, and a model that only serves keeps changing.

Faulty:
    x = tf.placeholder(tf.float32, [None, 8])
    is_training = tf.placeholder_with_default(False, [])
    mean, variance = tf.nn.moments(x, [0])
    averages = tf.train.ExponentialMovingAverage(0.9)
    update = averages.apply([mean, variance])
    kept = [averages.average(mean), averages.average(variance)]
    used = tf.cond(is_training, lambda: [mean, variance], lambda: [tf.identity(v) for v in kept])
    y = tf.nn.batch_normalization(x, *used, offset=None, scale=None, variance_epsilon=1e-3)
    with tf.control_dependencies([update]):
        logits = tf.layers.dense(y, 1)
    loss = tf.reduce_mean(tf.square(logits - 1.0))
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

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.graph.node import VariableId
    from alexnet_tf1.batchnorm.graph.variables import Write
    from alexnet_tf1.batchnorm.layers.layer import Layer
    from alexnet_tf1.batchnorm.rules.evidence import Evidence


@rule("BN202", needs="inference")
def writes_in_inference(layer: Layer, evidence: Evidence) -> str | None:
    """Names the averages that inference writes, and the operations that do."""
    written: dict[VariableId, Write] = {}
    for variable in [*layer.averages, *sorted(layer.auxiliary)]:
        for write in evidence.variables.writes.get(variable, ()):
            if write.node in evidence.run and evidence.variables.changes(write, evidence.inference):
                written.setdefault(variable, write)
    if not written:
        return None
    shown = [v for v in written if v in layer.averages] or list(written)
    return (
        f"computing the logits in inference writes {evidence.names(shown)}; "
        f"run {evidence.ops(written[v] for v in shown[:2])} only when is_training is True"
    )
