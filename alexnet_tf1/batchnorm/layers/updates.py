"""Which variables are kept as moving averages of which batch moments."""

from __future__ import annotations

from dataclasses import dataclass, field

from alexnet_tf1.batchnorm.graph.flatten import Tensor
from alexnet_tf1.batchnorm.graph.fold import fused_is_training, is_fused
from alexnet_tf1.batchnorm.graph.ops import PASSED, passed_inputs
from alexnet_tf1.batchnorm.graph.variables import Variables, Write
from alexnet_tf1.batchnorm.layers.provenance import Moments

_STEPS = 400
_PRODUCTS = frozenset({"Mul", "RealDiv", "Div", "DivNoNan", "MulNoNan"})


@dataclass
class Update:
    """A write whose value comes from batch moments.

    Attributes:
      write: the write.
      moments: the moments it comes from.
      through: other variables that the value passes through on its way, such as the
        biased average from which a zero-debiased one is made.
    """

    write: Write
    moments: set[Tensor] = field(default_factory=set)
    through: set[int] = field(default_factory=set)


def find_updates(moments: Moments, variables: Variables) -> list[Update]:
    """Every write, optimisers' apart, whose value is made of batch moments."""
    updates = []
    for writes in variables.writes.values():
        for write in writes:
            if write.value is not None:
                update = _trace(write, moments, variables)
                if update.moments:
                    updates.append(update)
    return updates


def _trace(write: Write, moments: Moments, variables: Variables) -> Update:
    """Walks from the value written back to moments, through what keeps it an average."""
    update = Update(write)
    start = write.value
    assert start is not None
    seen, stack = {start}, [start]
    while stack and len(seen) < _STEPS:
        tensor = stack.pop()
        for source in _step(tensor, update, moments, variables):
            if source not in seen:
                seen.add(source)
                stack.append(source)
    return update


def _step(tensor: Tensor, update: Update, moments: Moments, variables: Variables) -> list[Tensor]:
    node = moments.nodes[tensor[0]]
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
        if tensor[1] in (1, 2) and fused_is_training(node):
            update.moments.add(tensor)
        return []
    if node.op in ("Mean", "Sum") and node.inputs:
        if moments.reduces_batch(node):
            update.moments.add(tensor)
            return []
        return node.inputs[:1]
    if node.op not in PASSED:
        return []
    inputs = passed_inputs(node, moments.plain, tensor)
    if node.op in _PRODUCTS and sum(moments.tainted[t[0]] for t in inputs) > 1:
        return []  # a moment times another statistic: a gradient, not an average
    return inputs


def _write_before_read(read: int, variables: Variables) -> Write | None:
    """The write of the same variable that this read is made to wait for."""
    variable = variables.reading[read]
    for control in variables.nodes[read].controls:
        write = variables.write_of.get(control)
        if write is not None and write.variable == variable:
            return write
    return None
