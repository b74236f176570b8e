"""Finds which variables are kept as moving averages of which batch moments."""

from functools import partial

from alexnet_tf1.batchnorm.graph.node import Node, NodeId, Tensor
from alexnet_tf1.batchnorm.graph.ops import PASSED, PRODUCTS, fused_is_training, is_fused
from alexnet_tf1.batchnorm.graph.variables import Variables, Write
from alexnet_tf1.batchnorm.layers.layer import Update
from alexnet_tf1.batchnorm.layers.provenance import Provenance

_STEPS = 400
_INVERSES = frozenset({"Reciprocal", "Inv"})


def find_updates(provenance: Provenance) -> list[Update]:
    """Every write, optimisers' apart, whose value is made of batch moments."""
    found = [Update(w) for ws in provenance.variables.writes.values() for w in ws if w.value]
    for update in found:
        start = [update.write.value] if update.write.value else []
        step = partial(_step, update, provenance)
        for _ in provenance.flat.walks.reach(start, step, _STEPS):
            pass
    return [update for update in found if update.moments]


def _step(update: Update, provenance: Provenance, tensor: Tensor) -> list[Tensor]:
    """Notes the batch moments, and goes on through what keeps the value an average."""
    node, variables = provenance.nodes[tensor.node], provenance.variables
    earlier = variables.write_of.get(node.id)
    if node.id in variables.reading:
        earlier = _write_before_read(node.id, variables)
    if earlier is not None and earlier.variable != update.write.variable and earlier.value:
        update.through.add(earlier.variable)
        return [earlier.value]
    if earlier is not None or node.id in variables.reading or provenance.is_gradient(node):
        return []
    if is_fused(node.op):
        if tensor.output in (1, 2) and fused_is_training(node):
            update.moments.add(tensor)
        return []
    if node.op in ("Mean", "Sum") and node.inputs:
        if provenance.reduces_batch(node):
            update.moments.add(tensor)
            return []
        return node.inputs[:1]
    if node.op not in PASSED:
        return []
    inputs = provenance.plain.passed_inputs(tensor)
    if node.op in PRODUCTS:
        inputs = [t for k, t in enumerate(inputs) if not _is_weight(node, k, t, provenance)]
        if sum(provenance.tainted[t.node] for t in inputs) > 1:
            return []  # a batch moment times another statistic: a gradient, not an average
    return inputs


def _is_weight(node: Node, at: int, tensor: Tensor, provenance: Provenance) -> bool:
    """Tells whether the moment is divided by it, a count of examples or the sum of a mask."""
    divides = at == 1 and "Div" in node.op
    if not divides and provenance.nodes[provenance.peel(tensor).node].op not in _INVERSES:
        return False
    return provenance.tainted[tensor.node] == 1 and not provenance.is_computed(tensor)


def _write_before_read(read: NodeId, variables: Variables) -> Write | None:
    """The write of the same variable that this read is made to wait for."""
    waited = (variables.write_of.get(control) for control in variables.nodes[read].controls)
    own = (w for w in waited if w is not None and w.variable == variables.reading[read])
    return next(own, None)
