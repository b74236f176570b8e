"""Audits a graph's batch normalisations: what training updates and what inference reads.

Works on any TF1 graph, from its protos alone: nothing is imported into TensorFlow's
runtime and nothing is executed. The stages: graph.load (read) -> graph.flatten (inline
functions) -> layers (find the batch normalisations) -> choices (the training op, the logits,
the switch) -> graph.fold (hold the switch at training and at inference) -> rules.
"""

from __future__ import annotations

import dataclasses
import gc
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from alexnet_tf1.batchnorm import entry_points, pair
from alexnet_tf1.batchnorm.choices import Choices, Outputs
from alexnet_tf1.batchnorm.coverage import left_alone, step_notes, take_stock, unread_notes
from alexnet_tf1.batchnorm.entry_points import trainable_ids
from alexnet_tf1.batchnorm.graph import load
from alexnet_tf1.batchnorm.graph.flatten import FlatGraph
from alexnet_tf1.batchnorm.graph.followers import Followers
from alexnet_tf1.batchnorm.graph.load import GraphSource
from alexnet_tf1.batchnorm.graph.node import NodeId, Tensor
from alexnet_tf1.batchnorm.layers.grouping import find_layers
from alexnet_tf1.batchnorm.layers.layer import Layer
from alexnet_tf1.batchnorm.layers.provenance import Provenance
from alexnet_tf1.batchnorm.layers.savers import saved_variables
from alexnet_tf1.batchnorm.report import AuditReport, Fault, Need
from alexnet_tf1.batchnorm.rules import registry, upkeep
from alexnet_tf1.batchnorm.rules.evidence import Evidence
from alexnet_tf1.batchnorm.rules.wording import some


def audit_graph(
    graph: Any,
    train_ops: Any = None,
    logits: Any = None,
    is_training: Any = None,
    *,
    training_only: bool = False,
    inference: Any = None,
    select: Any = None,
    ignore: Any = None,
) -> AuditReport:
    """Checks a graph's batch normalisations by the rules of docs/rules.md.

    Args:
      graph: tf.Graph, GraphDef, MetaGraphDef or SavedModel.
      train_ops: the training operation, or all of them: operations, tensors or names.
        None: found; an empty list: the graph does not train.
      logits: the tensor or tensors that inference computes, or their names. None: found.
      is_training: the training switch, a tensor, variable or name (or a list of several);
        a Python bool says the graph was built with a constant. None: found, if there is one.
      training_only: the graph has no inference in it; the rules of inference are left out.
      inference: the graph that infers, where it is another one, or its file; the rules of
        inference are applied to it, with logits, and the others to graph.
      select: the rules to check: "BN101", a prefix as "BN2", or "BN203:critic/*" with a glob of
        layers; one text with commas, or several. None: all.
      ignore: rules not to check, in the same form.

    Returns:
      The layers, the faults and notes on what was found or not checked.

    Raises:
      UserError: if a name is not in the graph.
    """
    asked = Asked(train_ops, logits, is_training, training_only, select=select, ignore=ignore)
    return _audit(load.from_object(graph), asked, inference)


def audit_file(
    path: str | os.PathLike[str],
    train_ops: Any = None,
    logits: Any = None,
    is_training: Any = None,
    tags: Sequence[str] | None = None,
    signature: str | None = None,
    *,
    training_only: bool = False,
    inference: Any = None,
    select: Any = None,
    ignore: Any = None,
) -> AuditReport:
    """Checks the graph that a path stands for.

    Args:
      path: a .meta file, a SavedModel folder or its saved_model.pb, a frozen .pb, a graph.pbtxt, a
        checkpoint's prefix, or a folder that holds one of these; it is only parsed.
      train_ops: as for audit_graph, by name.
      logits: as for audit_graph, by name.
      is_training: as for audit_graph, by name.
      tags: tags of the MetaGraph in a SavedModel that holds several.
      signature: the signature whose outputs are the logits.
      training_only: as for audit_graph.
      inference: as for audit_graph.
      select: as for audit_graph.
      ignore: as for audit_graph.

    Returns:
      As audit_graph.

    Raises:
      UserError: if there is no graph, or as audit_graph.
    """
    asked = Asked(train_ops, logits, is_training, training_only, select=select, ignore=ignore)
    return _audit(load.from_file(path, tags, signature), asked, inference)


@dataclass(frozen=True)
class Asked:
    """The caller's word on a graph: the arguments of audit_graph."""

    train_ops: Any
    logits: Any
    is_training: Any
    training_only: bool = False
    families: tuple[Need, ...] = ("training", "inference", "saving")  # the rules to apply
    select: Any = None
    ignore: Any = None


def _audit(source: GraphSource, asked: Asked, inference: Any) -> AuditReport:
    """Audits a graph, or a pair of them, with the garbage collector at rest.

    The table of nodes is many small objects: each time their number sets off the
    collector it would walk all of TensorFlow's live graph, three times the audit's work.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        if inference is None:
            return _checked(source, asked).report
        return _pair(source, inference, asked)
    finally:
        if was_enabled:
            gc.enable()


def _pair(source: GraphSource, inference: Any, asked: Asked) -> AuditReport:
    """Audits the training of one graph and the inference of another."""
    is_file = isinstance(inference, (str, os.PathLike))
    other = load.from_file(inference) if is_file else load.from_object(inference)
    switch = asked.is_training
    one, two = (_switches_in(graph, switch) for graph in (source, other))
    if entry_points.names_of(switch) and not (one or two):
        one = switch  # it is in neither: the error says so
    trains = dataclasses.replace(
        asked, logits=None, is_training=one, training_only=True, families=("training", "saving")
    )
    infers = dataclasses.replace(asked, train_ops=None, is_training=two, families=("inference",))
    training, inferring = _checked(source, trains), _checked(other, infers)
    report = training.report.joined(inferring.report)
    if not training.evidence.steps:
        return report
    allows = registry.selected(asked.select, asked.ignore).allows
    for layer, message in pair.never_updated(inferring.evidence, training.evidence):
        if allows("BN102", layer.name):
            fault = Fault("BN102", layer.name, message)
            place = _place(fault, layer, inferring.evidence, other)
            report.faults.append(fault._replace(message=message + place))
    unknown = pair.strangers(inferring.evidence, training.evidence)
    if unknown:
        report.left_out["pair"] = f"BN102 was not checked across the graphs on {some(unknown)}"
        report.notes.append(
            f"{report.left_out['pair']}: the graph that trains has no variables of these names; "
            "give the two graphs that belong together"
        )
    return report


def _switches_in(source: GraphSource, given: Any) -> Any:
    """Those of the switches named that the graph has; a constant is for both."""
    if given is None or isinstance(given, bool):
        return given
    nodes = {node.name for node in source.graph_def.node}
    return [n for n in entry_points.names_of(given) if n.partition(":")[0] in nodes] or None


class Checked(NamedTuple):
    """One graph, audited."""

    report: AuditReport
    evidence: Evidence


def _checked(source: GraphSource, asked: Asked) -> Checked:
    selected = registry.selected(asked.select, asked.ignore)
    flat = FlatGraph(source.graph_def, source.op_defs)
    provenance = Provenance(flat)
    followers = Followers(flat)
    layers = find_layers(provenance, trainable_ids(source, provenance.variables))
    choices = Choices(source, provenance, layers, followers)
    switches = choices.switches(asked.is_training)
    training = choices.folded(switches, training=True)
    inference = choices.folded(switches, training=False) if switches else training
    train_ops = choices.train_ops(asked.train_ops, training)
    steps = {
        name: training.executed(entry_points.run_nodes(flat, [name], "--train-op"))
        for name in train_ops
    }
    trained = set().union(*steps.values())
    outputs = Outputs([], {})
    if not asked.training_only:
        outputs = choices.outputs(asked.logits, trained, training, inference)
    judged = set(outputs.judging)
    whole = Evidence(
        provenance=provenance,
        training=training,
        inference=inference,
        layers=layers,
        judged=judged,
        steps=list(steps.values()),
        read=inference.data_cone(outputs.tensors),
        run=inference.executed(t.node for t in outputs.tensors),
        train_name=_train_name(train_ops),
        collected=_collected(source, provenance),
        followers=followers,
        saved=saved_variables(provenance),
        checkpoint=source.checkpoint,
    )
    faults: list[Fault] = []
    checked: dict[Need, list[str]] = {n: [] for n in asked.families if n != "saving"}
    for layer, evidence in zip(layers, _evidence(layers, whole, outputs.judging), strict=True):
        met: set[Need] = {"training", "saving"} if steps else {"saving"}
        if layer.name in outputs.judging:
            met.add("inference")
        needs = met.intersection(asked.families)
        own = registry.check([layer], evidence, needs, selected)
        for fault in own:
            place = _place(fault, layer, evidence, source)
            faults.append(fault._replace(message=fault.message + place))
        if "training" in checked and (
            evidence.trains(layer) or _is_kept_otherwise(layer, evidence, own)
        ):
            checked["training"].append(layer.name)
        if "inference" in checked and "inference" in met and evidence.infers(layer):
            checked["inference"].append(layer.name)
    stock = take_stock(layers, checked, choices.reasons, flat, left_alone(whole) if steps else {})
    names = provenance.variables.names
    report = AuditReport(
        layers=[(layer.name, [names[v] for v in layer.averages]) for layer in layers],
        faults=faults,
        notes=[
            *([] if layers else ["no batch normalisation was found"]),
            *choices.notes,
            *step_notes(steps, whole, layers),
            *unread_notes(whole, layers),
            *_frozen_notes(whole),
            *stock.notes,
        ],
        checked=stock.checked,
        left_out=stock.left_out | selected.left_out(),
    )
    return Checked(report, whole)


def _evidence(
    layers: Iterable[Layer], whole: Evidence, judging: Mapping[str, list[Tensor]]
) -> list[Evidence]:
    """By layer, what is known of the outputs that judge it; of all, where none passes through."""
    known: dict[int, Evidence] = {}  # by the list of outputs: most layers share one
    none: list[Tensor] = []
    found = []
    for layer in layers:
        outputs = judging.get(layer.name, none)
        if id(outputs) not in known:
            read = whole.inference.data_cone(outputs)
            run = whole.inference.executed(t.node for t in outputs)
            known[id(outputs)] = dataclasses.replace(whole, read=read, run=run)
        own = known[id(outputs)]
        found.append(own if own.infers(layer) else whole)
    return found


def _is_kept_otherwise(layer: Layer, evidence: Evidence, faults: list[Fault]) -> bool:
    """Tells whether the rules of training could judge a layer that no training op runs."""
    if not evidence.steps:
        return False
    frozen = any(layer.name in names for names in evidence.frozen.values())
    is_fault = any(fault.rule.startswith("BN1") for fault in faults)
    return frozen or is_fault or upkeep.follows_copies(layer, evidence)


def _train_name(names: list[str]) -> str:
    return names[0].partition(":")[0] if len(names) == 1 else "any of the training ops"


def _place(fault: Fault, layer: Layer, evidence: Evidence, source: GraphSource) -> str:
    """Says where in the user's code the layer and the training op were built, where it is known."""
    nodes, flat = evidence.provenance.nodes, evidence.provenance.flat
    built = [("layer", source.place(nodes[layer.sites[0].node]))]
    if fault.rule.startswith("BN1") and evidence.train_name in flat.top:
        step = flat.run_nodes(evidence.train_name)[0]
        built.append(("training op", source.place(nodes[step])))
    known = [f"{what} built at {place}" for what, place in built if place]
    return f" ({', '.join(known)})" if known else ""


def _frozen_notes(evidence: Evidence) -> list[str]:
    """Says which layers are not called faults because they are frozen on purpose."""
    notes = []
    for reason, names in evidence.frozen.items():
        notes.append(f"frozen on purpose, to judge by that {reason}: {some(names)}")
    return notes


def _collected(source: GraphSource, provenance: Provenance) -> set[NodeId]:
    """Nodes that running the UPDATE_OPS collection runs."""
    flat = provenance.flat
    names = source.collections.get(load.UPDATE_OPS, ())
    found = [n for name in names if name in flat.top for n in flat.run_nodes(name)]
    return provenance.plain.executed(found)
