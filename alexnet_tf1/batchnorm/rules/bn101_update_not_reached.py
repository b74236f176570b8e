"""Finds moving averages whose update ops no training op reaches.

The layer is trained with batch statistics, and the graph holds operations that would update its
moving averages, but running the training op does not run them: they were only put into the
UPDATE_OPS collection, lie in a branch that training does not take, or change nothing in training.

Why it is bad:
Training looks well, because it normalises with the batch. Inference normalises with averages that
still are what they were initialised to, mean 0 and variance 1.

Faulty:
    x = tf.placeholder(tf.float32, [None, 8])
    is_training = tf.placeholder(tf.bool, [])
    y = tf.layers.batch_normalization(x, training=is_training)
    logits = tf.layers.dense(y, 1)
    loss = tf.reduce_mean(tf.square(logits - 1.0))
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
from alexnet_tf1.batchnorm.rules.wording import UPDATE_OPS, is_or_are, it_or_them, listed

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.graph.node import VariableId
    from alexnet_tf1.batchnorm.graph.variables import Write
    from alexnet_tf1.batchnorm.layers.layer import Layer
    from alexnet_tf1.batchnorm.rules.evidence import Evidence


@rule("BN101", needs="training")
def update_not_reached(layer: Layer, evidence: Evidence) -> str | None:
    """Names the averages that training leaves as they are, and what to make it depend on."""
    trains = evidence.trains_on_batch(layer) or _trains_on_averages(layer, evidence)
    if not trains or evidence.nobody_reads(layer):
        return None
    updates = {v: _updates(v, layer, evidence) for v in layer.averages}
    missed = [
        v
        for v, writes in updates.items()
        if writes and not (_is_updated(v, evidence) or _is_copied(v, layer, evidence))
    ]
    if not missed:
        return None
    subject = f"{evidence.names(missed)} {is_or_are(missed)}"
    writes = [write for v in missed for write in updates[v]]
    if not any(evidence.training.runs(write.node) for write in writes):
        return (
            f"{subject} updated only where training never goes; move the update "
            f"({evidence.ops(writes[:1])}) into the branch that training takes"
        )
    running = [write for write in writes if write.node in evidence.trained]
    if running:
        return (
            f"{subject} written by {evidence.ops(running[:1])} without being changed in "
            "training; give the update a momentum below 1 when is_training is True"
        )
    remedy = _remedy({v: updates[v] for v in missed}, evidence)
    last = evidence.followers.last(updates[v][0].node for v in missed)
    also = [name for name in last if not evidence.is_gradient(name)][:2]
    unless = (
        f"; unless your loop also runs {listed(also)}: then name {it_or_them(also)} with --train-op"
    )
    return f"{subject} never updated by {evidence.train_name}; {remedy}{unless if also else ''}"


def _updates(variable: VariableId, layer: Layer, evidence: Evidence) -> list[Write]:
    """The writes of the layer's batch moments, else those of whatever is computed from a batch."""
    if variable in layer.updates:
        return [update.write for update in layer.updates[variable]]
    if variable not in evidence.stored_in_inference(layer):
        return []
    return [
        write
        for write in evidence.variables.writes.get(variable, ())
        if write.value is not None and evidence.provenance.is_computed(write.value)
    ]


def _remedy(missed: dict[VariableId, list[Write]], evidence: Evidence) -> str:
    """Names what to depend on: the collection, or an update of each average that can be run.

    A layer that is called several times has several updates of each average. One that belongs to a
    call that training does not make, such as that on a Keras model's own input, needs inputs that
    training does not feed, and raises when it is run.
    """
    can_run: list[Write] = []
    for writes in missed.values():
        changing = [w for w in writes if evidence.variables.changes(w, evidence.training)]
        can_run += [w for w in changing if evidence.can_run_in_training([w.node])][:1]
    if len(can_run) < len(missed):
        others = next(iter(missed.values()))[:1]
        return (
            f"its updates ({evidence.ops(others)}) belong to a call of the layer on inputs that "
            f"training does not have; call the layer on those of {evidence.train_name}, with "
            "training=is_training, and make that depend on the new updates"
        )
    if all(write.node in evidence.collected for write in can_run) and evidence.can_run_in_training(
        evidence.collected
    ):
        return f"build it under {UPDATE_OPS}"
    return f"build it under tf.control_dependencies on {evidence.ops(can_run)}"


def _trains_on_averages(layer: Layer, evidence: Evidence) -> bool:
    """Tells whether training normalises with averages that it should update.

    Those of the network's input, in no collection, may be updated where inputs are gathered.
    """
    if not evidence.trains(layer) or layer.moments:
        return False
    writes = {update.write.node for updates in layer.updates.values() for update in updates}
    return bool(upkeep.parameters(layer)) or not writes.isdisjoint(evidence.collected)


def _is_updated(variable: VariableId, evidence: Evidence) -> bool:
    return any(
        write.node in evidence.trained and evidence.variables.changes(write, evidence.training)
        for write in evidence.variables.writes.get(variable, ())
    )


def _is_copied(variable: VariableId, layer: Layer, evidence: Evidence) -> bool:
    """Tells whether the average is set from another network's, as a target network's is."""
    own = {update.write.node for update in layer.updates.get(variable, ())}
    return any(
        evidence.provenance.sources(write.value).variables - {*layer.averages, *layer.auxiliary}
        for write in evidence.variables.writes[variable]
        if write.value is not None and write.node not in own
    )
