"""Finds moving statistics that are still what they were initialised to.

Every value of the layer's moving mean and variance in the checkpoint is the initial one, mean 0 and
variance 1 (or 0, of an ExponentialMovingAverage), and no count says that they were updated.

Why it is bad:
The weights are those of a trained model, but inference normalises with statistics that have never
seen the data. The update ops were left out of training.

Faulty:
    y = tf.layers.batch_normalization(tf.random.normal([20, 4], mean=3.0), training=True)
    loss = tf.reduce_mean(tf.square(tf.layers.dense(y, 1) - 1.0))
    train_op = tf.train.AdamOptimizer().minimize(loss)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(train_op)
        tf.train.Saver().save(session, "model.ckpt")

Mended:
    y = tf.layers.batch_normalization(tf.random.normal([20, 4], mean=3.0), training=True)
    loss = tf.reduce_mean(tf.square(tf.layers.dense(y, 1) - 1.0))
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = tf.train.AdamOptimizer().minimize(loss)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(train_op)
        tf.train.Saver().save(session, "model.ckpt")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alexnet_tf1.batchnorm.rules.registry import rule
from alexnet_tf1.batchnorm.rules.wording import GIVE_TRAINING, UPDATE_OPS

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.checkpoint.statistics import Measured, MeasuredLayer
    from alexnet_tf1.batchnorm.rules.evidence import CheckpointEvidence

_RUN_UPDATES = f"build train_op under {UPDATE_OPS}"
_RUN_AVERAGES = "run the op that ExponentialMovingAverage.apply returns with every train_op"


@rule("CK101", needs="checkpoint")
def never_updated(layer: MeasuredLayer, evidence: CheckpointEvidence) -> str | None:
    """Names the statistics at their initial values, after how many steps, and the remedy."""
    untouched = _untouched(layer, evidence)
    if not untouched:
        return None
    values = " and ".join(f"{found.leaf} is all {found.minimum:g}" for found in untouched)
    if evidence.has_begun is False:
        return (
            f"{values}: still the initial values, training has not begun; not to be used for "
            "inference yet"
        )
    steps = evidence.steps
    when = f" after {steps} step{'' if steps == 1 else 's'}" if steps else ""
    uses_batch = evidence.without_update.get(layer.name)
    if uses_batch is False:
        # There is no update op that could be run: the layer was built without `training=`.
        return f"{values}{when}: never updated; {GIVE_TRAINING}, and train again"
    averages = all("average" in found.leaf.lower() for found in untouched)
    remedy = _RUN_AVERAGES if averages else _RUN_UPDATES
    if uses_batch:
        remedy = "average the batch's moments into them in training, which nothing here does"
    return f"{values}{when}: never updated; {remedy}, or {evidence.repair()}"


def _untouched(layer: MeasuredLayer, evidence: CheckpointEvidence) -> list[Measured]:
    """The statistics that are all at their initial values and that no count says were updated."""
    pair = [found for found in layer.statistics if found.role in ("mean", "variance", "std")]
    initial = [found for found in pair if found.fraction_initial == 1.0 and not found.updates]
    moved = [found for found in pair if found not in initial]
    if not initial or not moved:
        return initial
    # One moved, one did not. A mean of exactly 0 is possible (inputs that are zero, or as often
    # negative as positive); a variance that settles on exactly 1 in every channel is not.
    if moved[0].role == "mean" and initial[0].minimum == 1.0:
        return initial
    evidence.notes.append(
        f"{initial[0].variable} is all {initial[0].minimum:g} while {moved[0].leaf} has moved: "
        "no fault if its inputs have mean zero"
        if initial[0].role == "mean"
        else f"{initial[0].variable} is all 0: its inputs are constant"
    )
    return []
