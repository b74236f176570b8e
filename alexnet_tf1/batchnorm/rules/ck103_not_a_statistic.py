"""Finds a moving variance that is negative, and moving statistics that are not finite.

A mean holds NaN or infinity, or a variance or standard deviation does or is below zero.

Why it is bad:
Inference takes the square root of the variance: the channel's outputs become NaN and, through the
next layer, all outputs. Training diverged before this checkpoint, or the variance was computed as
mean(x^2) - mean(x)^2, which rounding makes negative where the mean is large.

Faulty:
    x = tf.constant([[30012.0], [30012.1], [30012.2]])
    mean = tf.reduce_mean(x, 0)
    variance = tf.reduce_mean(x * x, 0) - mean**2
    moving_mean = tf.get_variable("bn/moving_mean", initializer=tf.zeros([1]))
    moving_variance = tf.get_variable("bn/moving_variance", initializer=tf.zeros([1]))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run([tf.assign(moving_mean, mean), tf.assign(moving_variance, variance)])
        tf.train.Saver().save(session, "model.ckpt")

Mended:
    x = tf.constant([[30012.0], [30012.1], [30012.2]])
    mean, variance = tf.nn.moments(x, [0])
    moving_mean = tf.get_variable("bn/moving_mean", initializer=tf.zeros([1]))
    moving_variance = tf.get_variable("bn/moving_variance", initializer=tf.zeros([1]))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run([tf.assign(moving_mean, mean), tf.assign(moving_variance, variance)])
        tf.train.Saver().save(session, "model.ckpt")
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alexnet_tf1.batchnorm.rules.registry import rule
from alexnet_tf1.batchnorm.rules.wording import REPAIR

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.checkpoint.statistics import Measured, MeasuredLayer
    from alexnet_tf1.batchnorm.rules.evidence import CheckpointEvidence


@rule("CK103", needs="checkpoint")
def not_a_statistic(layer: MeasuredLayer, evidence: CheckpointEvidence) -> str | None:
    """Names the first statistic that is none, and how many of its values are wrong."""
    problem = next(filter(None, map(_problem, layer.statistics)), None)
    return problem and f"{layer.name}: {problem}; take an earlier checkpoint, {REPAIR}"


def _problem(found: Measured) -> str | None:
    size = math.prod(found.shape)
    if found.not_finite:
        return f"{found.leaf} is not finite in {found.not_finite} of {size} values"
    if found.negative and found.role in ("variance", "std", "renorm_stddev"):
        return (
            f"{found.leaf} is negative in {found.negative} of {size} values, down to "
            f"{found.minimum:g}"
        )
    return None
