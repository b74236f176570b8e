"""Finds layers that normalise with their stored averages in training too: `training=` forgotten.

A training op changes the layer's scale, its shift or the weights that feed it, and neither this
layer's averages nor those of any other layer that it changes are ever updated. Where it does
update others, or a checkpoint beside the graph holds averages that have moved, the layer is
frozen on purpose, and the report notes it.

Why it is bad:
The averages stay what they were initialised to, mean 0 and variance 1: the layer scales and
shifts, and normalises nothing, in training and in inference. There is no update op that training
could be made to run, since `training` is False by default.

Faulty:
    x = tf.placeholder(tf.float32, [None, 8])
    y = tf.layers.batch_normalization(x)
    logits = tf.layers.dense(y, 1)
    loss = tf.reduce_mean(tf.square(logits - 1.0))
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = tf.train.AdamOptimizer().minimize(loss)

Mended:
    x = tf.placeholder(tf.float32, [None, 8])
    is_training = tf.placeholder(tf.bool, [])
    y = tf.layers.batch_normalization(x, training=is_training)
    logits = tf.layers.dense(y, 1)
    loss = tf.reduce_mean(tf.square(logits - 1.0))
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = tf.train.AdamOptimizer().minimize(loss)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alexnet_tf1.batchnorm.rules import upkeep
from alexnet_tf1.batchnorm.rules.registry import rule
from alexnet_tf1.batchnorm.rules.wording import give_training, training_argument

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.graph.node import NodeId, VariableId
    from alexnet_tf1.batchnorm.layers.layer import Layer
    from alexnet_tf1.batchnorm.rules.evidence import Evidence


@rule("BN103", needs="training")
def training_forgotten(layer: Layer, evidence: Evidence) -> str | None:
    """Names the averages that training normalises with, unless they are frozen on purpose."""
    if not _trains_on_averages(layer, evidence) or evidence.is_moved(layer, evidence.trained):
        return None
    steps = [step for step in _programs(evidence) if _changes(layer, step, evidence)]
    if not steps:
        return None
    for step in steps:
        others = (other for other in evidence.layers if _changes(other, step, evidence))
        if any(evidence.is_moved(other, step) for other in others):
            evidence.frozen["other layers of the same training op are updated"].append(layer.name)
            return None
    if evidence.has_moved(layer.averages):
        evidence.frozen["the checkpoint beside the graph shows that they were"].append(layer.name)
        return None
    slim = training_argument(layer.name) == "is_training="
    said = "`is_training=` is False" if slim else "`training=` was forgotten"
    return (
        f"training normalises with {evidence.names(layer.averages)}, which nothing updates: "
        f"{said}; {give_training(layer.name)}"
    )


def _trains_on_averages(layer: Layer, evidence: Evidence) -> bool:
    """Tells whether training normalises with averages only, and not with ones it should update.

    A layer that trains on averages of its own input, whose update is forgotten, is BN101's.
    """
    sites = [site for site in layer.sites if site.node in evidence.trained]
    if not sites or not layer.stored or evidence.trains_on_batch(layer):
        return False
    own = {site.base for site in sites}
    moments = (m for us in layer.updates.values() for update in us for m in update.moments)
    return not any(evidence.provenance.moment(m).base in own for m in moments)


def _programs(evidence: Evidence) -> list[set[NodeId]]:
    """Lists what each loop runs: a training op and the updates beside it, or all single steps.

    A loop that was written by hand may fetch one operation for each variable.
    """
    averages = {v for x in evidence.layers for v in [*x.averages, *x.auxiliary]}
    written: list[set[VariableId]] = [
        {w.variable for node, w in evidence.variables.write_of.items() if node in step} - averages
        for step in evidence.steps
    ]
    pairs = list(zip(evidence.steps, written, strict=True))
    beside: set[NodeId] = set().union(*(step for step, changed in pairs if not changed))
    single: set[NodeId] = set().union(*(step for step, changed in pairs if len(changed) == 1))
    return [single | beside, *(step | beside for step, changed in pairs if len(changed) > 1)]


def _changes(layer: Layer, step: set[NodeId], evidence: Evidence) -> bool:
    """Tells whether a training step trains the layer's scale, shift or the weights before it.

    A step that copies them from another layer, as for a target network, trains that one.
    """
    writes = [
        write
        for variable in upkeep.parameters(layer)
        for write in evidence.variables.writes.get(variable, ())
        if write.node in step and evidence.variables.changes(write, evidence.training)
    ]
    return bool(writes) and any(w not in upkeep.copies_into(layer, evidence) for w in writes)
