"""Finds where an audit starts: the training ops, the logits and the training switch."""

import difflib
from collections.abc import Iterable
from typing import Any

import tensorflow.compat.v1 as tf

from alexnet_tf1.batchnorm.graph.flatten import OUTPUT, FlatGraph
from alexnet_tf1.batchnorm.graph.load import TRAIN_OP, TRAINABLE, GraphSource
from alexnet_tf1.batchnorm.graph.node import Node, NodeId, Tensor, VariableId
from alexnet_tf1.batchnorm.graph.ops import IDENTITIES, SELECTS, SWITCHES, is_apply
from alexnet_tf1.batchnorm.graph.variables import Variables
from alexnet_tf1.batchnorm.layers.provenance import Provenance
from alexnet_tf1.batchnorm.layers.sites import weights_of
from alexnet_tf1.errors import UserError

_LOSSES = frozenset({"SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"})
_PREDICTIONS = {"ArgMax": 0, "Softmax": 0, "LogSoftmax": 0, "InTopK": 0, "InTopKV2": 0, "TopKV2": 0}
_SHOWN = 6
_DECISIONS = 100


def names_of(items: Any) -> list[str]:
    """The names in one name, tensor or operation, or in a list of them; none in None.

    Raises:
      UserError: if something is neither a name nor has one.
    """
    if items is None:
        return []
    if not isinstance(items, (list, tuple, set)):
        items = [items]
    names = []
    for item in items:
        name = item if isinstance(item, str) else getattr(item, "name", None)
        if not isinstance(name, str):
            raise UserError(f"{item!r} names nothing in a graph; give a name, tensor or operation")
        names.append(name.strip().removeprefix("^"))
    return names


def tensor_named(flat: FlatGraph, name: str, option: str) -> Tensor:
    """The flat tensor named "x" or "x:0", which the user gave as that option.

    Raises:
      UserError: if there is none; with names that look like it.
    """
    node_name, colon, output = name.partition(":")
    if node_name in flat.top and (not colon or OUTPUT.fullmatch(output)):
        tensor = flat.top_tensor(node_name, int(output or 0))
        if tensor is not None:
            return tensor
        raise UserError(f"{option} {name!r}: {node_name} has no such output in the graph")
    near = difflib.get_close_matches(node_name, list(flat.top), n=3, cutoff=0.6)
    if not near:
        last = node_name.rpartition("/")[2].lower()
        near = [n for n in flat.top if last and n.rpartition("/")[2].lower() == last][:3]
    hint = f"; did you mean {' or '.join(near)}?" if near else "; give the name of a node in it"
    raise UserError(f"{option} {name!r} is not in the graph{hint}")


def run_nodes(flat: FlatGraph, names: Iterable[str], option: str) -> list[NodeId]:
    """Ids of the nodes that running the named operations or tensors asks for.

    Raises:
      UserError: if a name is not in the graph; the message names the option it was given as.
    """
    found: list[NodeId] = []
    for name in names:
        tensor_named(flat, name.removesuffix(":0"), option)
        found.extend(flat.run_nodes(name.partition(":")[0]))
    return found


# ---- training ops ------------------------------------------------------------------------


def find_train_ops(source: GraphSource, provenance: Provenance) -> list[str]:
    """Names of what a training loop would run: where all applied gradients lead to.

    They are top-level names; there are none if the graph does not train.
    """
    flat = provenance.flat
    seeds = {flat.run_nodes(n)[0] for n in source.collections.get(TRAIN_OP, ()) if n in flat.top}
    writes = provenance.variables.write_of
    seeds |= {node.id for node in flat.nodes if is_apply(node.op) and node.id in writes}
    return _ends(flat, seeds or _hand_written_steps(source, provenance))


def _hand_written_steps(source: GraphSource, provenance: Provenance) -> set[NodeId]:
    """Plain writes of computed values to trainable variables."""
    variables = provenance.variables
    # An initialiser, and what is set from outside, does not ask for any variable.
    return {
        write.node
        for variable in trainable_ids(source, variables)
        for write in variables.writes.get(variable, ())
        if write.value is not None and is_computed(write.value, provenance)
    }


def trainable_ids(source: GraphSource, variables: Variables) -> set[VariableId]:
    """Variables that are trained: by the collection, or because an optimiser steps them."""
    named = set(source.collections.get(TRAINABLE, ()))
    stepped = {w.variable for w in variables.write_of.values() if w.kind == "apply"}
    return stepped | {v for v, name in variables.names.items() if name in named}


def _ends(flat: FlatGraph, seeds: set[NodeId]) -> list[str]:
    """The last operations that the seeds lead to, at the graph's top level."""
    waiting: dict[NodeId, list[NodeId]] = {}
    for node in flat.nodes:
        for control in node.controls:
            waiting.setdefault(control, []).append(node.id)
    top_name = {node_id: name for name in flat.top for node_id in flat.run_nodes(name)}

    def step(node_id: NodeId) -> list[NodeId]:
        return waiting.get(node_id, []) + [consumer for consumer, _ in flat.consumers[node_id]]

    reached = [n for n in flat.walks.reach(seeds, step) if n in top_name]
    last = [
        n for n in reached if not step(n) and flat.nodes[n].op not in ("ReadVariableOp", "_Ret")
    ]
    # Of a step or a loop inside a function nothing waits for: take all of it.
    ends = {top_name[n] for n in last or reached}
    return [name for name in flat.top if name in ends]


# ---- logits ------------------------------------------------------------------------------


def find_logits(source: GraphSource, provenance: Provenance) -> list[str]:
    """Names, as "node:0", of a signature's outputs, else of what losses and predictions read.

    Raises:
      UserError: if nothing or more than one thing looks like logits.
    """
    flat = provenance.flat
    if source.outputs:
        return [name for name in source.outputs if name.partition(":")[0] in flat.top]
    found: dict[Tensor, None] = {}
    for node in flat.nodes:
        at = 0 if node.op in _LOSSES else _PREDICTIONS.get(node.op)
        if at is not None and len(node.inputs) > at:
            found[_under_softmax(node.inputs[at], provenance)] = None
    # What lies inside a function cannot be named, so it cannot be chosen.
    candidates = [t for t in found if _is_top(flat, t) and is_computed(t, provenance)]
    if len(candidates) > 1:  # those that no other is computed from: attention is not logits
        cones = {t: provenance.plain.data_cone([t]) for t in candidates}
        candidates = [t for t in candidates if not any(t in cones[o] for o in cones if o != t)]
    if len(candidates) == 1:
        candidates += _twins(candidates[0], provenance)
    names = [f"{flat.nodes[t.node].name}:{t.output}" for t in candidates]
    if not names:
        raise UserError("no logits were found in the graph; name them with --logits")
    if len(names) > 1:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        shown = ", ".join(names[:_SHOWN]) + more
        raise UserError(f"several tensors look like logits; choose with --logits: {shown}")
    return names


def _under_softmax(tensor: Tensor, provenance: Provenance) -> Tensor:
    for _ in range(20):
        tensor = provenance.peel(tensor)
        node = provenance.nodes[tensor.node]
        if node.op not in ("Softmax", "LogSoftmax", "Sigmoid") or not node.inputs:
            return tensor
        tensor = node.inputs[0]
    return tensor


def is_computed(tensor: Tensor, provenance: Provenance) -> bool:
    """Tells whether data and variables take part: labels and initial values are not computed."""
    if not provenance.tainted[tensor.node]:
        return False
    cone = provenance.plain.data_cone([tensor])
    return any(t.node in provenance.variables.reading for t in cone)


def _is_top(flat: FlatGraph, tensor: Tensor) -> bool:
    node = flat.nodes[tensor.node]
    return flat.top_tensor(node.name, tensor.output) == tensor


def _twins(logits: Tensor, provenance: Provenance) -> list[Tensor]:
    """The same last layer of another tower: one trains, the other may be for inference."""
    flat, weights = provenance.flat, weights_of(logits, provenance)
    op = flat.nodes[logits.node].op
    found = []
    for node in flat.nodes if weights else ():
        tensor = Tensor(node.id, logits.output)
        if node.op != op or tensor == logits or not provenance.tainted[node.id]:
            continue
        if weights_of(tensor, provenance) != weights or not _is_top(flat, tensor):
            continue
        if logits not in provenance.plain.data_cone([tensor]):  # as a gradient would be
            found.append(tensor)
    return found


# ---- the training switch -------------------------------------------------------------------


def assumption(provenance: Provenance, switch: Tensor, value: bool) -> dict[Tensor, bool]:
    """Finds what is known when the switch, a tensor or a variable, is at that value.

    That is its own value, and the values of what it is only another name for.
    """
    known: dict[Tensor, bool] = {}
    variables = provenance.variables
    held = variables.held_by(switch)
    if held is not None:
        known = {Tensor(n, 0): value for n, v in variables.reading.items() if v == held}
    for _ in range(50):
        known[switch] = value
        node = provenance.nodes[switch.node]
        if node.op == "LogicalNot":
            value = not value
        elif node.op not in IDENTITIES | {"Cast", "Reshape", "Squeeze"}:
            break
        if not node.inputs:
            break
        switch = node.inputs[0]
    return known


def switch_candidates(provenance: Provenance) -> list[Tensor]:
    """Inputs and variables that decide which branch is taken somewhere in the graph."""
    flat, names = provenance.flat, provenance.variables.names

    def may_switch(node: Node) -> bool:
        value = node.attr("dtype")
        dtype = 0 if value is None else value.type
        if node.op.startswith("Placeholder"):
            return dtype == tf.bool or (dtype in _NUMBERS and _decides(flat, node.id))
        return dtype == tf.bool and names.get(VariableId(node.id)) == node.name

    return [Tensor(node.id, 0) for node in flat.nodes if may_switch(node)]


_NUMBERS = (tf.float32, tf.int32, tf.int64)
_CONDITIONS = frozenset(
    """Identity Cast Equal NotEqual Greater GreaterEqual Less LessEqual LogicalNot LogicalAnd
    LogicalOr StopGradient Reshape Squeeze _Arg Enter All Any""".split()
)


def _decides(flat: FlatGraph, start: NodeId) -> bool:
    """Tells whether the number reaches a predicate through comparisons and casts alone."""

    def step(node_id: NodeId) -> list[NodeId]:
        return [c for c, _ in flat.consumers[node_id] if flat.nodes[c].op in _CONDITIONS]

    return any(
        _is_predicate(flat.nodes[consumer], at)
        for node_id in flat.walks.reach([start], step, _DECISIONS)
        for consumer, at in flat.consumers[node_id]
    )


def _is_predicate(node: Node, at: int) -> bool:
    """Tells whether the node chooses between branches by that input."""
    if node.op in SWITCHES:
        return at == 1
    return at == 0 and (node.op in SELECTS or node.want is not None)
