"""Where an audit starts: the training ops, the logits and the training switch."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from alexnet_tf1.batchnorm.graph.flatten import OUTPUT, FlatGraph, Tensor
from alexnet_tf1.batchnorm.graph.fold import IDENTITIES
from alexnet_tf1.batchnorm.graph.load import TRAIN_OP, GraphSource
from alexnet_tf1.batchnorm.graph.variables import Variables, is_apply
from alexnet_tf1.batchnorm.layers.provenance import Moments
from alexnet_tf1.batchnorm.layers.sites import weights_of
from alexnet_tf1.errors import UserError

_LOSSES = frozenset({"SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"})
_PREDICTIONS = {"ArgMax": 0, "Softmax": 0, "LogSoftmax": 0, "InTopK": 0, "InTopKV2": 0, "TopKV2": 0}
_SHOWN = 6


def names_of(items: Any) -> list[str]:
    """The names in one name, tensor or operation, or in a list of them.

    Args:
      items: those; None for none.

    Returns:
      Names of operations or tensors.

    Raises:
      UserError: if something is neither a name nor has one.
    """
    if items is None:
        return []
    if isinstance(items, str) or not isinstance(items, (list, tuple, set)):
        items = [items]
    names = []
    for item in items:
        name = item if isinstance(item, str) else getattr(item, "name", None)
        if not isinstance(name, str):
            raise UserError(f"{item!r} names nothing in a graph; give a name, tensor or operation")
        names.append(name.strip().removeprefix("^"))
    return names


def tensor_named(flat: FlatGraph, name: str, option: str) -> Tensor:
    """The flat tensor of that name.

    Args:
      flat: the graph.
      name: "x" or "x:0".
      option: what the user gave it as, for the message.

    Returns:
      The tensor.

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


def run_nodes(flat: FlatGraph, names: Iterable[str], option: str) -> list[int]:
    """Ids of all nodes that running the named operations or tensors runs.

    Args:
      flat: the graph.
      names: top-level names.
      option: what the user gave them as, for messages.

    Returns:
      The ids to start from; what those nodes need is not among them.

    Raises:
      UserError: if a name is not in the graph.
    """
    found: list[int] = []
    for name in names:
        tensor_named(flat, name.partition(":")[0] if name.endswith(":0") else name, option)
        found.extend(flat.run_nodes(name.partition(":")[0]))
    return found


# ---- training ops ------------------------------------------------------------------------


def find_train_ops(
    source: GraphSource, flat: FlatGraph, moments: Moments, variables: Variables
) -> list[str]:
    """Names of what a training loop would run: where all applied gradients lead to.

    Args:
      source: the graph, for its collections.
      flat: the same as one table.
      moments: the same, for what depends on data.
      variables: its variables.

    Returns:
      Top-level names; empty if the graph does not train.
    """
    seeds = {flat.run_nodes(n)[0] for n in source.collections.get(TRAIN_OP, ()) if n in flat.top}
    seeds |= {node.id for node in flat.nodes if is_apply(node.op) and node.id in variables.write_of}
    if not seeds:
        seeds = _hand_written_steps(source, moments, variables)
    return _ends(flat, seeds)


def _hand_written_steps(source: GraphSource, moments: Moments, variables: Variables) -> set[int]:
    """Plain writes of computed values to trainable variables."""
    trainable = trainable_ids(source, variables)
    found = set()
    for variable in trainable:
        for write in variables.writes.get(variable, ()):
            if write.value is None or not moments.tainted[write.value[0]]:
                continue
            # An initialiser, and what is set from outside, does not ask for any variable.
            cone = moments.plain.data_cone([write.value])
            if any(t[0] in variables.reading for t in cone):
                found.add(write.node)
    return found


def trainable_ids(source: GraphSource, variables: Variables) -> set[int]:
    """Variables that are trained: by the collection, or because an optimiser steps them."""
    named = set(source.collections.get("trainable_variables", ()))
    found = {v for v, name in variables.names.items() if name in named}
    for variable, writes in variables.writes.items():
        if any(write.kind == "apply" for write in writes):
            found.add(variable)
    return found


def _ends(flat: FlatGraph, seeds: set[int]) -> list[str]:
    """The last operations that the seeds lead to, at the graph's top level."""
    followers: dict[int, list[int]] = {}
    for node in flat.nodes:
        for control in node.controls:
            followers.setdefault(control, []).append(node.id)
    top_name = {}
    for name in flat.top:
        for node_id in flat.run_nodes(name):
            top_name[node_id] = name
    seen, queue = set(seeds), deque(seeds)
    ends: dict[str, None] = {}
    while queue:
        current = queue.popleft()
        nexts = followers.get(current, []) + [c for c, _ in flat.consumers[current]]
        is_end = not nexts and flat.nodes[current].op not in ("ReadVariableOp", "_Ret")
        if is_end and current in top_name:
            ends[top_name[current]] = None
        for follower in nexts:
            if follower not in seen:
                seen.add(follower)
                queue.append(follower)
    if not ends:  # a step or a loop inside a function: nothing waits for it
        ends = {top_name[s]: None for s in seen if s in top_name}
    order = list(flat.top)
    return sorted(ends, key=order.index) if len(ends) < 50 else list(ends)


# ---- logits ------------------------------------------------------------------------------


def find_logits(source: GraphSource, flat: FlatGraph, moments: Moments) -> list[str]:
    """Names of the logits: a signature's outputs, or what losses and predictions read.

    Args:
      source: the graph, for its signatures.
      flat: the same as one table.
      moments: the same, for what tensors are made of.

    Returns:
      Names as "node:0".

    Raises:
      UserError: if nothing or more than one thing looks like logits.
    """
    if source.outputs:
        return [name for name in source.outputs if name.partition(":")[0] in flat.top]
    found: dict[Tensor, None] = {}
    for node in flat.nodes:
        at = 0 if node.op in _LOSSES else _PREDICTIONS.get(node.op)
        if at is not None and len(node.inputs) > at:
            found[_under_softmax(node.inputs[at], moments)] = None
    # What lies inside a function cannot be named, so it cannot be chosen.
    candidates = [t for t in found if _is_top(flat, t) and _is_computed(t, moments)]
    if len(candidates) > 1:
        candidates = _last(candidates, moments)
    if len(candidates) == 1:
        candidates += _twins(flat, candidates[0], moments)
    names = [_top_name(flat, t) for t in candidates]
    if not names:
        raise UserError("no logits were found in the graph; name them with --logits")
    if len(names) > 1:
        raise UserError(f"several tensors look like logits; choose with --logits: {_list(names)}")
    return names


def _under_softmax(tensor: Tensor, moments: Moments) -> Tensor:
    for _ in range(20):
        tensor = moments.peel(tensor)
        node = moments.nodes[tensor[0]]
        if node.op not in ("Softmax", "LogSoftmax", "Sigmoid") or not node.inputs:
            return tensor
        tensor = node.inputs[0]
    return tensor


def _is_computed(tensor: Tensor, moments: Moments) -> bool:
    """Whether variables take part: labels are not computed."""
    if not moments.tainted[tensor[0]]:
        return False
    cone = moments.plain.data_cone([tensor])
    return any(t[0] in moments.variables.reading for t in cone)


def _last(candidates: list[Tensor], moments: Moments) -> list[Tensor]:
    """Those that no other is computed from: attention inside the network is not logits."""
    cones = {t: moments.plain.data_cone([t]) for t in candidates}
    return [t for t in candidates if not any(t in cones[o] for o in candidates if o != t)]


def _is_top(flat: FlatGraph, tensor: Tensor) -> bool:
    node = flat.nodes[tensor[0]]
    return flat.top_tensor(node.name, tensor[1]) == tensor


def _twins(flat: FlatGraph, logits: Tensor, moments: Moments) -> list[Tensor]:
    """The same last layer of another tower: one trains, the other may be for inference."""
    weights = weights_of(logits, moments)
    op = flat.nodes[logits[0]].op
    found = []
    for node in flat.nodes if weights else ():
        tensor = (node.id, logits[1])
        if node.op != op or tensor == logits or not moments.tainted[node.id]:
            continue
        if weights_of(tensor, moments) != weights or not _is_top(flat, tensor):
            continue
        if logits not in moments.plain.data_cone([tensor]):  # as a gradient would be
            found.append(tensor)
    return found


def _top_name(flat: FlatGraph, tensor: Tensor) -> str:
    return f"{flat.nodes[tensor[0]].name}:{tensor[1]}"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


# ---- the training switch -------------------------------------------------------------------


def assumption(
    flat: FlatGraph, variables: Variables, switch: Tensor, value: bool
) -> dict[Tensor, bool]:
    """What is known when the switch is at that value.

    Args:
      flat: the graph.
      variables: its variables.
      switch: the tensor or variable that says whether the network trains.
      value: its value.

    Returns:
      Values by tensor: the switch's own, and those of what it is only another name for.
    """
    known: dict[Tensor, bool] = {}
    held = variables.held_by(switch)
    if held is not None:
        known = {(n, 0): value for n, v in variables.reading.items() if v == held}
    for _ in range(50):
        known[switch] = value
        node = flat.nodes[switch[0]]
        if node.op == "LogicalNot":
            value = not value
        elif node.op not in IDENTITIES and node.op not in ("Cast", "Reshape", "Squeeze"):
            break
        if len(node.inputs) < 1:
            break
        switch = node.inputs[0]
    return known


def switch_candidates(flat: FlatGraph, variables: Variables) -> list[Tensor]:
    """Inputs and variables that decide which branch is taken somewhere in the graph."""
    found = []
    for node in flat.nodes:
        boolean = _dtype(node) == 10
        if node.op.startswith("Placeholder"):
            number = _dtype(node) in (1, 3, 9)
            if boolean or (number and _decides(flat, node.id)):
                found.append((node.id, 0))
        elif node.id in variables.names and boolean and variables.names[node.id] == node.name:
            found.append((node.id, 0))
    return found


def _dtype(node: Any) -> int:
    value = node.attr("dtype")
    return 0 if value is None else int(value.type)


_CONDITIONS = frozenset(
    """Identity Cast Equal NotEqual Greater GreaterEqual Less LessEqual LogicalNot LogicalAnd
    LogicalOr StopGradient Reshape Squeeze _Arg Enter All Any""".split()
)


def _decides(flat: FlatGraph, start: int) -> bool:
    """Whether the number reaches a predicate through comparisons and casts alone."""
    seen, queue = {start}, deque([start])
    while queue and len(seen) < 100:
        for consumer, at in flat.consumers[queue.popleft()]:
            node = flat.nodes[consumer]
            if node.op in ("Switch", "RefSwitch") and at == 1:
                return True
            chooses = node.op in ("Select", "SelectV2") or node.want is not None
            if chooses and at == 0:
                return True
            if node.op in _CONDITIONS and consumer not in seen:
                seen.add(consumer)
                queue.append(consumer)
    return False
