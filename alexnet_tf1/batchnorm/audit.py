"""Audits a graph's batch normalisations: what training updates and what inference reads.

Works on any TF1 graph, from its protos alone: nothing is imported into TensorFlow's
runtime and nothing is executed. The stages: graph.load (read) -> graph.flatten (inline
functions) -> layers (find the batch normalisations) -> choices (the training op, the logits,
the switch) -> graph.fold (hold the switch at training and at inference) -> rules.
"""

import gc
import os
from collections.abc import Sequence
from typing import Any

from alexnet_tf1.batchnorm.choices import Choices
from alexnet_tf1.batchnorm.entry_points import trainable_ids
from alexnet_tf1.batchnorm.graph import load
from alexnet_tf1.batchnorm.graph.flatten import FlatGraph
from alexnet_tf1.batchnorm.graph.load import GraphSource
from alexnet_tf1.batchnorm.graph.node import NodeId
from alexnet_tf1.batchnorm.layers.grouping import find_layers
from alexnet_tf1.batchnorm.layers.provenance import Provenance
from alexnet_tf1.batchnorm.report import AuditReport
from alexnet_tf1.batchnorm.rules import registry
from alexnet_tf1.batchnorm.rules.evidence import Evidence


def audit_graph(
    graph: Any, train_ops: Any = None, logits: Any = None, is_training: Any = None
) -> AuditReport:
    """Checks a graph's batch normalisations by the rules of docs/rules.md.

    Args:
      graph: tf.Graph, GraphDef, MetaGraphDef or SavedModel.
      train_ops: the training operation, or all of them: operations, tensors or names.
        None: found; an empty list: the graph does not train.
      logits: the tensor or tensors that inference computes, or their names. None: found.
      is_training: the training switch, a tensor, variable or name (or a list of several);
        a Python bool says the graph was built with a constant. None: found, if there is one.

    Returns:
      The layers, the faults and notes on what was found or not checked.

    Raises:
      UserError: if a name is not in the graph, or something has to be named.
    """
    return _audit(load.from_object(graph), train_ops, logits, is_training)


def audit_file(
    path: str | os.PathLike[str],
    train_ops: Any = None,
    logits: Any = None,
    is_training: Any = None,
    tags: Sequence[str] | None = None,
    signature: str | None = None,
) -> AuditReport:
    """Checks the graph in a .meta file, a SavedModel folder or a saved_model.pb.

    Args:
      path: the file or folder; it is only parsed.
      train_ops: as for audit_graph, by name.
      logits: as for audit_graph, by name.
      is_training: as for audit_graph, by name.
      tags: tags of the MetaGraph in a SavedModel that holds several.
      signature: the signature whose outputs are the logits.

    Returns:
      As audit_graph.

    Raises:
      UserError: if there is no graph, or as audit_graph.
    """
    return _audit(load.from_file(path, tags, signature), train_ops, logits, is_training)


def _audit(source: GraphSource, train_ops: Any, logits: Any, is_training: Any) -> AuditReport:
    """Audits one graph with the garbage collector at rest.

    The table of nodes is many small objects: each time their number sets off the
    collector it would walk all of TensorFlow's live graph, three times the audit's work.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _checked(source, train_ops, logits, is_training)
    finally:
        if was_enabled:
            gc.enable()


def _checked(source: GraphSource, train_ops: Any, logits: Any, is_training: Any) -> AuditReport:
    flat = FlatGraph(source.graph_def, source.op_defs)
    provenance = Provenance(flat)
    layers = find_layers(provenance, trainable_ids(source, provenance.variables))
    choices = Choices(source, provenance, layers)
    outputs = choices.logits(logits)
    switches = choices.switches(is_training)
    training = choices.folded(switches, training=True)
    inference = choices.folded(switches, training=False) if switches else training
    train_nodes, train_name = choices.train_ops(train_ops, training)
    evidence = Evidence(
        provenance=provenance,
        training=training,
        inference=inference,
        trained=training.executed(train_nodes),
        read=inference.data_cone(outputs),
        run=inference.executed(t.node for t in outputs),
        train_name=train_name,
        collected=_collected(source, provenance),
    )
    needs: set[registry.Need] = {"inference", "training"} if train_nodes else {"inference"}
    faults = registry.check(layers, evidence, needs)
    names = provenance.variables.names
    averages = [(layer.name, [names[v] for v in layer.averages]) for layer in layers]
    return AuditReport(averages, faults, _notes(flat, averages, choices.notes))


def _collected(source: GraphSource, provenance: Provenance) -> set[NodeId]:
    """Nodes that running the UPDATE_OPS collection runs."""
    flat = provenance.flat
    names = source.collections.get(load.UPDATE_OPS, ())
    found = [n for name in names if name in flat.top for n in flat.run_nodes(name)]
    return provenance.plain.executed(found)


def _notes(flat: FlatGraph, layers: Sequence[object], chosen: list[str]) -> list[str]:
    """Says what was found and chosen, and that a part of the graph was not walked through."""
    notes = []
    if flat.truncated:
        notes.append(
            f"{len(flat.truncated)} calls were not looked into (recursive or too large), the "
            f"first: {flat.truncated[0]}"
        )
    if not layers:
        notes.append("no batch normalisation was found")
    notes += chosen
    if flat.walks.cut:
        notes.append(
            f"not checked in full: {flat.walks.cut} walks through the graph were cut at their "
            "limit, so there may be layers, updates and faults that are not named here"
        )
    return notes
