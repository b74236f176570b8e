"""Finds layers whose moving statistics are missing from the checkpoint.

The checkpoint holds the layer's gamma and beta, or one of its two statistics, but not the moving
mean and variance that belong to them.

Why it is bad:
A model that is restored from this checkpoint normalises with initial values, or cannot be restored
at all. A Saver was given the trainable variables, and moving averages are not trainable.

Faulty:
    y = tf.layers.batch_normalization(tf.random.normal([20, 4], mean=3.0), training=True)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        tf.train.Saver(tf.trainable_variables()).save(session, "model.ckpt")

Mended:
    y = tf.layers.batch_normalization(tf.random.normal([20, 4], mean=3.0), training=True)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        tf.train.Saver().save(session, "model.ckpt")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alexnet_tf1.batchnorm.checkpoint.names import LayerVariables, short_name
from alexnet_tf1.batchnorm.rules.registry import rule
from alexnet_tf1.batchnorm.rules.wording import listed

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.checkpoint.statistics import MeasuredLayer
    from alexnet_tf1.batchnorm.rules.evidence import CheckpointEvidence

_SAVE_ALL = (
    "save with tf.train.Saver(), not with Saver(tf.trainable_variables()), whose checkpoint "
    "cannot be used for inference"
)


@rule("CK102", needs="checkpoint")
def not_saved(layer: MeasuredLayer, evidence: CheckpointEvidence) -> str | None:
    """Names what was saved and what was not."""
    missing = _missing(layer.variables)
    if not missing:
        return None
    there = listed([*map(short_name, layer.variables.affine), *(s.leaf for s in layer.statistics)])
    return f"{layer.name}: {there} saved without {listed(missing)}; {_SAVE_ALL}"


def _missing(variables: LayerVariables) -> list[str]:
    """Names the statistics that the layer must have had."""
    mean, variance = variables.find("mean"), variables.find("variance", "std")
    if mean and variance:
        return []
    kept = mean or variance
    if not kept:
        return ["moving statistics"] if variables.statistics else ["moving_mean", "moving_variance"]
    # A hand-written layer may well keep the mean only; the usual ones keep both.
    if not kept.usual:
        return []
    return ["its variance" if mean else "its mean"]
