"""Batch moments: reductions over the batch axis, and what a statistic is made of."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from alexnet_tf1.batchnorm.graph import constants
from alexnet_tf1.batchnorm.graph.axes import Axes
from alexnet_tf1.batchnorm.graph.data_dependence import tainted_nodes
from alexnet_tf1.batchnorm.graph.flatten import FlatGraph, Node, Tensor
from alexnet_tf1.batchnorm.graph.fold import Folding, fused_is_training, is_fused
from alexnet_tf1.batchnorm.graph.ops import ELEMENTWISE, PASSED, passed_inputs
from alexnet_tf1.batchnorm.graph.variables import Variables

_REDUCTIONS = frozenset({"Mean", "Sum"})
_STEPS = 400
_BASES = 60


@dataclass
class Sources:
    """What a statistic is made of.

    Attributes:
      moments: batch moments: reductions over the batch axis, outputs of fused nodes.
      variables: variables read.
      data: whether it also holds per-example data, that is, is no statistic at all.
    """

    moments: set[Tensor] = field(default_factory=set)
    variables: set[int] = field(default_factory=set)
    data: bool = False


@dataclass(frozen=True)
class Moment:
    """A reduction over the batch axis.

    Attributes:
      tensor: the reduction.
      squared: it reduces squares (a second moment).
      centred: it reduces squared distances from a batch mean (a variance).
      base: what it reduces, casts and reshapes peeled off.
      bases: base and the tensors it is computed from, element by element.
    """

    tensor: Tensor
    squared: bool
    centred: bool
    base: Tensor
    bases: frozenset[Tensor]


class Moments:
    """Answers what tensors are made of, on a graph nothing is folded in."""

    def __init__(self, plain: Folding, variables: Variables, order: list[int]) -> None:
        self.plain = plain
        self.flat: FlatGraph = plain.flat
        self.nodes = plain.nodes
        self.variables = variables
        self.tainted = tainted_nodes(self.flat, variables, order)
        self.axes = Axes(plain, self.tainted)
        self._moments: dict[Tensor, Moment] = {}
        self._reduces: dict[int, bool] = {}
        self._sources: dict[Tensor, Sources] = {}

    # ---- sources ---------------------------------------------------------------------

    def sources(self, tensor: Tensor, folding: Folding | None = None) -> Sources:
        """What the tensor is made of, back to moments, variables and data.

        Args:
          tensor: where to start.
          folding: count live branches only; None: all branches.

        Returns:
          Its sources.
        """
        if folding is None and tensor in self._sources:
            return self._sources[tensor]
        found = Sources()
        chosen = folding or self.plain
        seen, stack = {tensor}, [tensor]
        while stack and len(seen) < _STEPS:
            current = stack.pop()
            if chosen.is_dead(current):
                continue
            for source in self._step(current, chosen, found):
                if source not in seen:
                    seen.add(source)
                    stack.append(source)
        if folding is None:
            self._sources[tensor] = found
        return found

    def _step(self, tensor: Tensor, folding: Folding, found: Sources) -> list[Tensor]:
        """Notes the tensor if it is a source; otherwise says where to go on."""
        node = self.nodes[tensor[0]]
        if node.id in self.variables.reading:
            found.variables.add(self.variables.reading[node.id])
            return []
        if node.id in folding.values or tensor in folding.assumed:
            return []
        write = self.variables.write_of.get(node.id)
        if write is not None:  # a reference to the variable, after the write
            found.variables.add(write.variable)
            return [] if write.value is None else [write.value]
        if is_fused(node.op):
            if tensor[1] in (1, 2) and fused_is_training(node):
                found.moments.add(tensor)
                return []
            if tensor[1] in (1, 2):
                return node.inputs[2 + tensor[1] : 3 + tensor[1]]
        elif node.op in _REDUCTIONS and node.inputs:
            if self.reduces_batch(node):
                found.moments.add(tensor)
                return []
            return node.inputs[:1]
        elif node.op in PASSED:
            return passed_inputs(node, folding, tensor)
        if self.tainted[node.id]:
            found.data = True
        return []

    def has_data(self, tensor: Tensor) -> bool:
        """Whether the tensor holds per-example data."""
        return self.sources(tensor).data

    # ---- reductions ------------------------------------------------------------------

    def reduces_batch(self, node: Node) -> bool:
        """Whether a Mean or Sum runs over the batch axis and leaves a channel axis."""
        if node.id not in self._reduces:
            self._reduces[node.id] = False  # a reduction inside its own input: no
            self._reduces[node.id] = self._find_reduces_batch(node)
        return self._reduces[node.id]

    def _find_reduces_batch(self, node: Node) -> bool:
        if len(node.inputs) < 2 or not self.tainted[node.inputs[0][0]]:
            return False
        axes = self.axes.integers(node.inputs[1])
        if axes is None:
            return False
        rank = self.axes.rank(node.inputs[0])
        if rank is not None:
            axes = [a % rank if rank else 0 for a in axes]
            if len(set(axes)) >= rank:
                return False  # one number for the whole batch: nothing is left per channel
        batch = self.axes.batch_axis(node.inputs[0], rank, axes)
        if batch is None or batch not in axes:
            return False
        return self._data_below(node.inputs[0])

    def _data_below(self, tensor: Tensor) -> bool:
        """Whether data is met before another reduction over axis 0."""
        seen, queue = {tensor}, deque([tensor])
        while queue and len(seen) < _STEPS:
            current = queue.popleft()
            node = self.nodes[current[0]]
            if node.id in self.variables.reading:
                continue
            if node.op in _REDUCTIONS:
                axes = self.axes.integers(node.inputs[1]) if len(node.inputs) > 1 else None
                if axes is None or 0 in axes:
                    continue
                nexts = node.inputs[:1]
            elif is_fused(node.op) and current[1] in (1, 2):
                continue
            elif node.op in PASSED:
                nexts = passed_inputs(node, self.plain, current)
            elif self.tainted[node.id]:
                return True
            else:
                continue
            for source in nexts:
                if source not in seen:
                    seen.add(source)
                    queue.append(source)
        return False

    # ---- what a reduction reduces ------------------------------------------------------

    def moment(self, tensor: Tensor) -> Moment:
        """Looks into a moment of `Sources.moments`."""
        if tensor not in self._moments:
            # What a damaged graph computes from itself meets this, and the walk ends.
            self._moments[tensor] = Moment(tensor, False, False, tensor, frozenset())
            self._moments[tensor] = self._find_moment(tensor)
        return self._moments[tensor]

    def _find_moment(self, tensor: Tensor) -> Moment:
        node = self.nodes[tensor[0]]
        if is_fused(node.op):
            base = self.peel(node.inputs[0])
            return Moment(tensor, tensor[1] == 2, True, base, frozenset({base}))
        top = self.peel(node.inputs[0], reductions=True)
        squared, deviation = self._square_of(top)
        base, centred = self.peel(top), False
        if squared and deviation:
            base = self.peel(deviation[0], reductions=True)
            centred = any(self._is_batch_mean(t) for t in deviation[1:])
        return Moment(tensor, squared, centred, base, self.bases(node.inputs[0]))

    def _square_of(self, tensor: Tensor, depth: int = 0) -> tuple[bool, list[Tensor]]:
        """Whether it is a square; and if so x, then whatever was subtracted from x."""
        node = self.nodes[tensor[0]]
        if depth > 2 or not node.inputs:
            return False, []
        inside: Tensor | None = None
        if node.op == "SquaredDifference":
            data = [t for t in node.inputs if self.has_data(t)]
            rest = [t for t in node.inputs if t not in data]
            return True, [*(data or node.inputs[:1]), *rest]
        if node.op == "Square" or (
            node.op == "Pow" and len(node.inputs) == 2 and self.plain_constant(node.inputs[1]) == 2
        ):
            inside = node.inputs[0]
        elif node.op == "Mul":
            left, right = self.peel(node.inputs[0]), self.peel(node.inputs[-1])
            if left == right or self._same(left, right):
                inside = left
            else:  # weighted: w * square(x)
                for part in (left, right):
                    squared, deviation = self._square_of(part, depth + 1)
                    if squared:
                        return True, deviation
        if inside is None:
            return False, []
        inside = self.peel(inside)
        deviation_node = self.nodes[inside[0]]
        if deviation_node.op == "Sub" and len(deviation_node.inputs) == 2:
            first, second = deviation_node.inputs
            if not self.has_data(first):
                first, second = second, first
            return True, [first, second]
        return True, [inside]

    def _same(self, left: Tensor, right: Tensor) -> bool:
        """Whether two nodes are one expression written twice."""
        one, two = self.nodes[left[0]], self.nodes[right[0]]
        if one.op != two.op or one.op not in ELEMENTWISE or len(one.inputs) != len(two.inputs):
            return False
        return all(
            self.plain.resolve(a) == self.plain.resolve(b)
            for a, b in zip(one.inputs, two.inputs, strict=True)
        )

    def _is_batch_mean(self, tensor: Tensor) -> bool:
        return any(not self.moment(m).squared for m in self.sources(tensor).moments)

    def plain_constant(self, tensor: Tensor) -> constants.Scalar | None:
        """The value of a constant node, or None."""
        node = self.nodes[self.plain.resolve(tensor)[0]]
        value = node.attr("value") if node.op == "Const" else None
        return None if value is None else constants.scalar(value.tensor)

    def peel(self, tensor: Tensor, *, reductions: bool = False) -> Tensor:
        """The tensor under casts, reshapes, transposes and other names.

        Args:
          tensor: where to start.
          reductions: also look under means and sums over other axes than the batch.

        Returns:
          The first tensor that is more than that.
        """
        for _ in range(200):
            tensor = self.plain.resolve(tensor)
            node = self.nodes[tensor[0]]
            under = node.op in ("Cast", "Reshape", "Transpose", "Squeeze", "ExpandDims", "Real")
            under = under or node.op in ("Switch", "RefSwitch", "Conj", "Snapshot")
            if reductions and node.op in _REDUCTIONS and not self.reduces_batch(node):
                under = True
            if not under or not node.inputs:
                return tensor
            tensor = node.inputs[0]
        return tensor

    def bases(self, tensor: Tensor) -> frozenset[Tensor]:
        """The per-example tensors it is computed from, element by element, nearest first."""
        found: list[Tensor] = []
        seen, queue = {tensor}, deque([tensor])
        while queue and len(found) < _BASES and len(seen) < _STEPS:
            current = queue.popleft()
            node = self.nodes[current[0]]
            if not self.tainted[node.id] or node.id in self.variables.reading:
                continue
            if node.op in _REDUCTIONS:
                if not node.inputs or self.reduces_batch(node):
                    continue
                nexts = node.inputs[:1]
            elif node.op in PASSED:
                nexts = passed_inputs(node, self.plain, current)
            else:
                nexts = []
            found.append(self.peel(current))
            for source in nexts:
                if source not in seen:
                    seen.add(source)
                    queue.append(source)
        return frozenset(found)
