"""Finds averages in which more than 5% of their initial value is left.

An average with decay d keeps d to the power n of its initial value after n updates. The decay is
read from the graph beside the checkpoint, the number of updates from the checkpoint: by a counter
of the average, or by the step counter.

Why it is bad:
Inference normalises with a mixture of the population's statistics and of 0 or 1. With the default
momentum of tf.layers, 0.99, 5% is left after 299 steps, with slim's 0.999 after 2,995.

Faulty:
    x = tf.random.normal([20, 4], mean=3.0)
    step = tf.train.get_or_create_global_step()
    logits = tf.layers.dense(tf.layers.batch_normalization(x, training=True), 1)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        loss = tf.reduce_mean(logits)
        train_op = tf.train.GradientDescentOptimizer(0.1).minimize(loss, step)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(20):
            session.run(train_op)
        tf.train.Saver().save(session, "model.ckpt")

Mended:
    x = tf.random.normal([20, 4], mean=3.0)
    step = tf.train.get_or_create_global_step()
    logits = tf.layers.dense(tf.layers.batch_normalization(x, training=True, momentum=0.8), 1)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        loss = tf.reduce_mean(logits)
        train_op = tf.train.GradientDescentOptimizer(0.1).minimize(loss, step)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(20):
            session.run(train_op)
        tf.train.Saver().save(session, "model.ckpt")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alexnet_tf1.batchnorm.rules.registry import rule

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.checkpoint.statistics import Measured, MeasuredLayer
    from alexnet_tf1.batchnorm.rules.evidence import CheckpointEvidence

_MOST = 0.05


@rule("CK104", needs="checkpoint")
def initial_value_left(layer: MeasuredLayer, evidence: CheckpointEvidence) -> str | None:
    """Names the average with the most of its initial value left, and how long to train."""
    if any(found.fraction_initial == 1.0 for found in layer.statistics):
        return None  # never updated, which is CK101's
    left = {found: _left(found, evidence) for found in layer.statistics}
    found = max(left, key=left.__getitem__, default=None)
    if found is None or left[found] <= _MOST or _began_elsewhere(layer, left[found]):
        return None
    decay, updates = evidence.decays[found.variable], _updates(found, evidence)
    return (
        f"{100 * left[found]:.0f}% of its initial value is left in {found.leaf}, whose decay is "
        f"{decay:.6g}, after {updates} update{'' if updates == 1 else 's'}; train longer, with a "
        f"smaller decay, or {evidence.repair()}"
    )


def _updates(found: Measured, evidence: CheckpointEvidence) -> int | None:
    return evidence.steps if found.updates is None else found.updates


def _left(found: Measured, evidence: CheckpointEvidence) -> float:
    """The share of the initial value, 0 to 1; 0 where decay or steps are unknown."""
    updates, decay = _updates(found, evidence), evidence.decays.get(found.variable, 0.0)
    return decay**updates if updates else 0.0


def _began_elsewhere(layer: MeasuredLayer, left: float) -> bool:
    """Tells whether a variance is too small for one that began at 1.

    It was then trained before: the counter was set back, or a trained model restored.
    """
    return any(
        statistic.role == "variance"
        and not statistic.zero_start
        and found.minimum is not None
        and found.minimum < 0.99 * left
        for statistic, found in zip(layer.variables.statistics, layer.statistics, strict=True)
    )
