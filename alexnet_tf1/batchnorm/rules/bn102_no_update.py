"""Finds moving averages that inference reads and that nothing in the graph updates.

The layer is trained with batch statistics and inference normalises with stored ones, but no
operation averages the layer's batch moments into them, or the mean is averaged into the variance's
variable and the variance into the mean's. Or only inference runs the layer, and its other variables
are trained, or copied from a layer that is, and its averages are not: a test tower that was built
in another variable scope, a target network whose soft update takes the trainable variables alone.

Why it is bad:
Inference normalises with whatever the variables were initialised to, or with the wrong moment, and
nothing that the training loop could run would help.

Faulty:
    x = tf.placeholder(tf.float32, [None, 8])
    is_training = tf.placeholder(tf.bool, [])
    batch = tf.nn.moments(x, [0])
    mean = tf.get_variable("moving_mean", initializer=tf.zeros([8]), trainable=False)
    variance = tf.get_variable("moving_variance", initializer=tf.ones([8]), trainable=False)
    used = tf.cond(is_training, lambda: batch, lambda: (tf.identity(mean), tf.identity(variance)))
    y = tf.nn.batch_normalization(x, *used, offset=None, scale=None, variance_epsilon=1e-3)
    logits = tf.layers.dense(y, 1)
    loss = tf.reduce_mean(tf.square(logits - 1.0))
    train_op = tf.train.AdamOptimizer().minimize(loss)

Mended:
    x = tf.placeholder(tf.float32, [None, 8])
    is_training = tf.placeholder(tf.bool, [])
    batch = tf.nn.moments(x, [0])
    mean = tf.get_variable("moving_mean", initializer=tf.zeros([8]), trainable=False)
    variance = tf.get_variable("moving_variance", initializer=tf.ones([8]), trainable=False)
    used = tf.cond(is_training, lambda: batch, lambda: (tf.identity(mean), tf.identity(variance)))
    y = tf.nn.batch_normalization(x, *used, offset=None, scale=None, variance_epsilon=1e-3)
    logits = tf.layers.dense(y, 1)
    loss = tf.reduce_mean(tf.square(logits - 1.0))
    updates = [
        tf.assign_sub(average, 0.1 * (average - moment))
        for average, moment in zip([mean, variance], batch)
    ]
    with tf.control_dependencies(updates):
        train_op = tf.train.AdamOptimizer().minimize(loss)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alexnet_tf1.batchnorm.rules import upkeep
from alexnet_tf1.batchnorm.rules.registry import rule
from alexnet_tf1.batchnorm.rules.wording import is_or_are, it_or_them

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.graph.node import VariableId
    from alexnet_tf1.batchnorm.layers.layer import Layer
    from alexnet_tf1.batchnorm.rules.evidence import Evidence


@rule("BN102", needs="training")
def no_update(layer: Layer, evidence: Evidence) -> str | None:
    """Names the averages without an update."""
    if not evidence.trains_on_batch(layer):
        return _left_behind(layer, evidence)
    stored = evidence.stored_in_inference(layer)
    never = [v for v in stored if v not in layer.updates and not upkeep.has_update(v, evidence)]
    if never:
        return (
            f"{evidence.names(never)} {is_or_are(never)} read in inference and nothing in the "
            f"graph updates {it_or_them(never)}; average the batch moments into them with "
            "assign_moving_average and make the training op depend on that"
        )
    return _swapped(layer, stored, evidence)


def _left_behind(layer: Layer, evidence: Evidence) -> str | None:
    """Names averages of a layer that does not train while the rest of it does."""
    never = [v for v in layer.averages if v in layer.stored and not upkeep.has_update(v, evidence)]
    if not never:
        return None
    subject = (
        f"{evidence.names(never)} {is_or_are(never)} read in inference and nothing in the graph"
    )
    source = upkeep.original(layer, evidence)
    if source is not None:
        by = evidence.ops(upkeep.copies_into(layer, evidence)[:1])
        return (
            f"{subject} updates {it_or_them(never)}, while {by} copies a parameter of "
            f"{source.name}; copy {evidence.names(source.averages)} as well"
        )
    if evidence.trains(layer):
        return None  # BN103 judges what training runs
    twin = upkeep.twin(layer, evidence)
    remedy = (
        f"let it share those of {twin.name if twin else 'the layer that trains'}: build both in "
        "the same variable scope, the second with reuse=True"
    )
    trained = [v for v in upkeep.parameters(layer) if upkeep.is_trained(v, evidence)]
    if trained:
        return (
            f"{subject} updates {it_or_them(never)}, while {evidence.names(trained[:2])} "
            f"{is_or_are(trained[:2])} trained; {remedy}"
        )
    if evidence.has_moved(never):
        reason = "the checkpoint beside the graph holds averages that were updated"
        evidence.frozen[reason].append(layer.name)
    elif twin and evidence.has_moved(twin.averages):
        return (
            f"{subject} updates {it_or_them(never)}, and the checkpoint beside the graph holds no "
            f"trained values for {it_or_them(never)}, as it does for {twin.name}; {remedy}"
        )
    return None


def _swapped(layer: Layer, stored: list[VariableId], evidence: Evidence) -> str | None:
    """Finds a mean and a variance that are averaged into each other's variables."""

    def is_variance(variable: VariableId) -> bool:
        found = [m for u in layer.updates[variable] for m in u.moments]
        return any(evidence.provenance.moment(m).squared for m in found)

    known = [v for v in stored if v in layer.updates]
    means = [v for v in known if v in layer.mean_variables - layer.variance_variables]
    variances = [v for v in known if v in layer.variance_variables - layer.mean_variables]
    wrong_means = [v for v in means if is_variance(v)]
    wrong_variances = [v for v in variances if not is_variance(v)]
    if not (wrong_means and wrong_variances):
        return None
    return (
        f"{evidence.names(wrong_means[:1])} is read as the mean and nothing in the graph updates "
        f"it with the batch mean: it and {evidence.names(wrong_variances[:1])} get each other's "
        "moments; exchange the values of the two updates"
    )
