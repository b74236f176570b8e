"""Finds where an audit starts: what is named, the training ops and the training switch."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow.compat.v1 as tf

from alexnet_tf1.batchnorm.graph.constants import Scalar
from alexnet_tf1.batchnorm.graph.flatten import OUTPUT, FlatGraph
from alexnet_tf1.batchnorm.graph.followers import Followers
from alexnet_tf1.batchnorm.graph.load import TRAIN_OP, TRAINABLE, GraphSource
from alexnet_tf1.batchnorm.graph.node import Node, NodeId, Tensor, VariableId
from alexnet_tf1.batchnorm.graph.ops import IDENTITIES, SELECTS, SWITCHES, is_apply
from alexnet_tf1.batchnorm.graph.variables import Variables
from alexnet_tf1.batchnorm.layers.layer import Layer
from alexnet_tf1.batchnorm.layers.provenance import Provenance
from alexnet_tf1.errors import UserError

_DECISIONS = 100
_COMPARED = 4  # values that a number is compared to, tried as a switch's


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


def find_train_ops(source: GraphSource, provenance: Provenance, followers: Followers) -> list[str]:
    """Names of what a training loop would run: where all applied gradients lead to.

    They are top-level names; there are none if the graph does not train.
    """
    flat = provenance.flat
    seeds = {flat.run_nodes(n)[0] for n in source.collections.get(TRAIN_OP, ()) if n in flat.top}
    writes = provenance.variables.write_of
    applied = {node.id for node in flat.nodes if is_apply(node.op) and node.id in writes}
    seeds |= applied | _accumulating(applied, provenance)
    return followers.last(seeds or training_steps(source, provenance))


def _accumulating(applied: set[NodeId], provenance: Provenance) -> set[NodeId]:
    """Finds the operations that add gradients up for others to apply."""
    variables, tainted = provenance.variables, provenance.tainted
    found = {node.id for node in provenance.nodes if node.op.endswith("AccumulatorApplyGradient")}

    def is_gradient(tensor: Tensor) -> bool:  # not a rate that is fed
        node = provenance.nodes[provenance.peel(tensor).node]
        return bool(tainted[tensor.node]) and not node.op.startswith("Placeholder")

    for step in applied:
        inputs = provenance.nodes[step].inputs
        if any(map(is_gradient, inputs)):
            continue
        for variable in {v for t in inputs for v in provenance.sources(t).variables}:
            for write in variables.writes.get(variable, ()):
                if write.value is not None and provenance.is_computed(write.value):
                    found.add(write.node)
    return found


def training_steps(source: GraphSource, provenance: Provenance) -> set[NodeId]:
    """Writes that train: optimisers', else those of computed values to trainable variables."""
    variables = provenance.variables
    applied = {node for node, write in variables.write_of.items() if write.kind == "apply"}
    # An initialiser, and what is set from outside, does not ask for any variable.
    return applied or {
        write.node
        for variable in trainable_ids(source, variables)
        for write in variables.writes.get(variable, ())
        if write.value is not None and provenance.is_computed(write.value)
    }


def trainable_ids(source: GraphSource, variables: Variables) -> set[VariableId]:
    """Variables that are trained: by the collection, or because an optimiser steps them."""
    named = set(source.collections.get(TRAINABLE, ()))
    stepped = {w.variable for w in variables.write_of.values() if w.kind == "apply"}
    return stepped | {v for v, name in variables.names.items() if name in named}


def weight_ids(
    source: GraphSource, provenance: Provenance, layers: Iterable[Layer]
) -> set[VariableId]:
    """Variables that make an operation part of a network: trained ones and copies of those.

    In a graph that names no trained variables, all but the moving averages.
    """
    variables = provenance.variables
    trainable = trainable_ids(source, variables)
    if not trainable:
        averages = {v for layer in layers for v in [*layer.averages, *layer.auxiliary]}
        return set(variables.names) - averages
    copies = {
        write.variable
        for write in variables.write_of.values()
        if write.value is not None
        and not provenance.tainted[write.value.node]
        and provenance.sources(write.value).variables & trainable
    }
    return trainable | copies


# ---- the training switch -------------------------------------------------------------------


def assumption(provenance: Provenance, switch: Tensor, value: Scalar) -> dict[Tensor, Scalar]:
    """Finds what is known when the switch, a tensor or a variable, is at that value.

    That is its own value, and the values of what it is only another name for.
    """
    known: dict[Tensor, Scalar] = {}
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
        dtype = _dtype(node)
        if node.op.startswith("Placeholder"):
            return dtype == tf.bool or (dtype in _NUMBERS and _decides(flat, node.id))
        return dtype == tf.bool and names.get(VariableId(node.id)) == node.name

    return [Tensor(node.id, 0) for node in flat.nodes if may_switch(node)]


def is_number(provenance: Provenance, switch: Tensor) -> bool:
    """Tells whether the switch is an input that holds a number."""
    node = provenance.nodes[switch.node]
    return node.op.startswith("Placeholder") and _dtype(node) in _NUMBERS


def switch_values(provenance: Provenance, switch: Tensor) -> list[tuple[Scalar, Scalar]]:
    """Pairs of values of which one may be training's: true and false, or what it is compared to."""
    if not is_number(provenance, switch):
        return [(True, False)]
    compared: dict[Scalar, None] = {}
    for node_id in provenance.flat.walks.reach(
        [switch.node], _conditions(provenance.flat), _DECISIONS
    ):
        for consumer, at in provenance.flat.consumers[node_id]:
            node = provenance.nodes[consumer]
            for other in node.inputs[1 - at : 2 - at] if node.op in _COMPARISONS else ():
                value = provenance.plain_constant(other)
                if isinstance(value, (int, float)):
                    compared |= dict.fromkeys((value, value + 1))
    return [(1, 0), *((value, 0) for value in list(compared)[:_COMPARED] if value not in (0, 1))]


def _dtype(node: Node) -> int:
    value = node.attr("dtype")
    return 0 if value is None else value.type


_NUMBERS = (tf.float32, tf.int32, tf.int64)
_COMPARISONS = frozenset("Equal NotEqual Greater GreaterEqual Less LessEqual".split())
_CONDITIONS = _COMPARISONS | frozenset(
    """Identity Cast LogicalNot LogicalAnd LogicalOr StopGradient Reshape Squeeze _Arg Enter All
    Any""".split()
)


def _decides(flat: FlatGraph, start: NodeId) -> bool:
    """Tells whether the number reaches a predicate through comparisons and casts alone."""
    return any(
        _is_predicate(flat.nodes[consumer], at)
        for node_id in flat.walks.reach([start], _conditions(flat), _DECISIONS)
        for consumer, at in flat.consumers[node_id]
    )


def _conditions(flat: FlatGraph) -> Callable[[NodeId], list[NodeId]]:
    """From a node to those that compare it, cast it or decide with it."""
    return lambda n: [c for c, _ in flat.consumers[n] if flat.nodes[c].op in _CONDITIONS]


def _is_predicate(node: Node, at: int) -> bool:
    """Tells whether the node chooses between branches by that input."""
    if node.op in SWITCHES:
        return at == 1
    return at == 0 and (node.op in SELECTS or node.want is not None)
