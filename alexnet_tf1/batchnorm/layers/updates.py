"""Finds which variables are kept as moving averages of which batch moments."""

from __future__ import annotations

from alexnet_tf1.batchnorm.graph.node import NodeId, Tensor
from alexnet_tf1.batchnorm.graph.ops import PASSED, PRODUCTS, fused_is_training, is_fused
from alexnet_tf1.batchnorm.graph.variables import Variables, Write
from alexnet_tf1.batchnorm.layers.layer import Update
from alexnet_tf1.batchnorm.layers.provenance import Provenance

_STEPS = 400


def find_updates(provenance: Provenance) -> list[Update]:
    """Every write, optimisers' apart, whose value is made of batch moments."""
    updates = []
    for writes in provenance.variables.writes.values():
        for write in writes:
            if write.value is not None:
                update = _traced(write, write.value, provenance)
                if update.moments:
                    updates.append(update)
    return updates


def _traced(write: Write, value: Tensor, provenance: Provenance) -> Update:
    """Walks from the value written back to batch moments, through what keeps it an average."""
    update = Update(write)
    walks = provenance.flat.walks
    for _ in walks.reach([value], lambda tensor: _step(tensor, update, provenance), _STEPS):
        pass
    return update


def _step(tensor: Tensor, update: Update, provenance: Provenance) -> list[Tensor]:
    node, variables = provenance.nodes[tensor.node], provenance.variables
    earlier = variables.write_of.get(node.id)
    if earlier is None and node.id in variables.reading:
        earlier = _write_before_read(node.id, variables)
        if earlier is None:
            return []
    if earlier is not None:
        if earlier.variable == update.write.variable or earlier.value is None:
            return []
        update.through.add(earlier.variable)
        return [earlier.value]
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
    if node.op in PRODUCTS and sum(provenance.tainted[t.node] for t in inputs) > 1:
        return []  # a batch moment times another statistic: a gradient, not an average
    return inputs


def _write_before_read(read: NodeId, variables: Variables) -> Write | None:
    """The write of the same variable that this read is made to wait for."""
    variable = variables.reading[read]
    for control in variables.nodes[read].controls:
        write = variables.write_of.get(control)
        if write is not None and write.variable == variable:
            return write
    return None
