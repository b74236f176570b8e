"""Finds what a tensor is made of: batch moments, variables, data.

A batch moment is a reduction over the batch axis: a mean, a mean of squares, a variance.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from alexnet_tf1.batchnorm.graph import constants
from alexnet_tf1.batchnorm.graph.axes import Axes
from alexnet_tf1.batchnorm.graph.data_dependence import tainted_nodes
from alexnet_tf1.batchnorm.graph.flatten import FlatGraph
from alexnet_tf1.batchnorm.graph.fold import Folding, evaluation_order
from alexnet_tf1.batchnorm.graph.gradients import is_gradient
from alexnet_tf1.batchnorm.graph.node import Node, NodeId, Tensor, VariableId
from alexnet_tf1.batchnorm.graph.ops import ELEMENTWISE, PASSED, fused_is_training, is_fused
from alexnet_tf1.batchnorm.graph.variables import Variables

_REDUCTIONS = frozenset({"Mean", "Sum"})
_PEELED = frozenset(
    "Cast Reshape Transpose Squeeze ExpandDims Real Conj Switch RefSwitch Snapshot".split()
)
_STEPS = 400
_BASES = 400


@dataclass
class Sources:
    """The things that a statistic is made of."""

    # batch moments: reductions over the batch axis, outputs of fused nodes
    moments: set[Tensor] = field(default_factory=set)
    variables: set[VariableId] = field(default_factory=set)  # variables read
    data: bool = False  # whether it also holds per-example data, that is, is no statistic at all


@dataclass(frozen=True)
class Moment:
    """A reduction over the batch axis."""

    tensor: Tensor  # the reduction
    squared: bool  # it reduces squares (a second moment)
    centred: bool  # it reduces squared distances from a batch mean (a variance)
    base: Tensor  # what it reduces, casts and reshapes peeled off
    bases: frozenset[Tensor]  # base and the tensors it is computed from, element by element


class Provenance:
    """Answers what tensors are made of, on a graph nothing is folded in."""

    def __init__(self, flat: FlatGraph) -> None:
        self.flat = flat
        self.nodes = flat.nodes
        self.plain = Folding(flat)  # the graph, unfolded
        self.variables = Variables(flat)
        self.order = evaluation_order(flat)  # every node after its inputs, but in loops
        self.tainted = tainted_nodes(flat, self.variables, self.order)  # by node: 1 on data
        self.axes = Axes(self.plain, self.tainted)
        self._names = {node.name for node in flat.nodes}
        self._gradients: dict[NodeId, bool] = {}
        self._moments: dict[Tensor, Moment] = {}
        self._reduces: dict[NodeId, bool] = {}
        self._sources: dict[Tensor, Sources] = {}
        self._has_data: dict[Tensor, bool] = {}

    def folded(self, assumed: Mapping[Tensor, constants.Scalar]) -> Folding:
        """The graph with some tensors held at known values."""
        return Folding(self.flat, assumed, self.order)

    def is_gradient(self, node: Node) -> bool:
        """Tells whether the operation computes a gradient: no layer normalises there."""
        if node.id not in self._gradients:
            self._gradients[node.id] = is_gradient(node.name, node.op, self._names)
        return self._gradients[node.id]

    # ---- sources ---------------------------------------------------------------------

    def sources(self, tensor: Tensor, folding: Folding | None = None) -> Sources:
        """Finds what the tensor is made of, in the folding's live branches; None: in all."""
        if folding is None and tensor in self._sources:
            return self._sources[tensor]
        found = Sources()
        for _ in self._back(tensor, folding or self.plain, found):
            pass
        if folding is None:
            self._sources[tensor] = found
        return found

    def _back(self, tensor: Tensor, folding: Folding, found: Sources) -> Iterator[Tensor]:
        return self.flat.walks.reach([tensor], lambda t: self._step(t, folding, found), _STEPS)

    def _step(self, tensor: Tensor, folding: Folding, found: Sources) -> list[Tensor]:
        """Notes the tensor if it is a source; otherwise says where to go on."""
        node = self.nodes[tensor.node]
        if folding.is_dead(tensor):
            return []
        if node.id in self.variables.reading:
            found.variables.add(self.variables.reading[node.id])
            return []
        if node.id in folding.values or tensor in folding.assumed:
            return []
        write = self.variables.write_of.get(node.id)
        if write is not None:  # a reference to the variable, after the write
            found.variables.add(write.variable)
            return [] if write.value is None else [write.value]
        if self.is_gradient(node):
            return []
        if is_fused(node.op) and tensor.output in (1, 2):
            if not fused_is_training(node):
                return node.inputs[2 + tensor.output : 3 + tensor.output]
            found.moments.add(tensor)
            return []
        if node.op in _REDUCTIONS and node.inputs:
            if self.reduces_batch(node):
                found.moments.add(tensor)
                return []
            return node.inputs[:1]
        if node.op in PASSED:
            return folding.passed_inputs(tensor)
        if self.tainted[node.id]:
            found.data = True
        return []

    def is_computed(self, tensor: Tensor) -> bool:
        """Tells whether data and variables take part: labels and initial values are no results."""
        if not self.tainted[tensor.node]:
            return False
        return any(t.node in self.variables.reading for t in self.plain.data_cone([tensor]))

    def has_data(self, tensor: Tensor) -> bool:
        """Tells whether the tensor holds per-example data."""
        if tensor not in self._has_data:
            found = Sources()
            walk = self._back(tensor, self.plain, found)
            self._has_data[tensor] = any(found.data for _ in walk) or found.data
        return self._has_data[tensor]

    # ---- reductions ------------------------------------------------------------------

    def reduces_batch(self, node: Node) -> bool:
        """Tells whether a Mean or Sum runs over the batch axis and leaves a channel axis."""
        if node.id not in self._reduces:
            self._reduces[node.id] = False  # a reduction inside its own input: no
            self._reduces[node.id] = self._find_reduces_batch(node)
        return self._reduces[node.id]

    def _find_reduces_batch(self, node: Node) -> bool:
        if len(node.inputs) < 2 or not self.tainted[node.inputs[0].node] or self.is_gradient(node):
            return False
        x, axes = node.inputs[0], self.axes.integers(node.inputs[1])
        if axes is None:
            return False
        rank = self.axes.rank(x)
        if rank is not None:
            axes = [a % rank if rank else 0 for a in axes]
            if len(set(axes)) >= rank:
                return False  # one number for the whole batch: nothing is left per channel
        return self.axes.batch_axis(x, rank, axes) in axes and self._data_below(x)

    def _data_below(self, tensor: Tensor) -> bool:
        """Tells whether data is met before another reduction over axis 0."""

        def step(current: Tensor) -> list[Tensor]:
            node = self.nodes[current.node]
            if node.id in self.variables.reading or self._is_moment_of_fused(current):
                return []
            if node.op in _REDUCTIONS:
                axes = self.axes.integers(node.inputs[1]) if len(node.inputs) > 1 else None
                return [] if axes is None or 0 in axes else node.inputs[:1]
            return self.plain.passed_inputs(current) if node.op in PASSED else []

        return any(self._is_data(t) for t in self.flat.walks.reach([tensor], step, _STEPS))

    def _is_data(self, tensor: Tensor) -> bool:
        """Tells whether the tensor is per-example data that no operation known here has changed."""
        node = self.nodes[tensor.node]
        known = node.op in _REDUCTIONS or node.op in PASSED or self._is_moment_of_fused(tensor)
        return bool(self.tainted[node.id]) and not known and node.id not in self.variables.reading

    def _is_moment_of_fused(self, tensor: Tensor) -> bool:
        return is_fused(self.nodes[tensor.node].op) and tensor.output in (1, 2)

    # ---- what a reduction reduces ------------------------------------------------------

    def moment(self, tensor: Tensor) -> Moment:
        """Looks into a moment of `Sources.moments`."""
        if tensor not in self._moments:
            # What a damaged graph computes from itself meets this, and the walk ends.
            self._moments[tensor] = Moment(tensor, False, False, tensor, frozenset())
            self._moments[tensor] = self._find_moment(tensor)
        return self._moments[tensor]

    def _find_moment(self, tensor: Tensor) -> Moment:
        node = self.nodes[tensor.node]
        if is_fused(node.op):
            base = self.peel(node.inputs[0])
            return Moment(tensor, tensor.output == 2, True, base, frozenset({base}))
        top = self.peel(node.inputs[0], reductions=True)
        squared, deviation = self._square_of(top)
        base, centred = self.peel(top), False
        if squared and deviation:
            base = self.peel(deviation[0], reductions=True)
            centred = any(self._is_batch_mean(t) for t in deviation[1:])
        return Moment(tensor, squared, centred, base, self.bases(node.inputs[0]))

    def _square_of(self, tensor: Tensor, depth: int = 0) -> tuple[bool, list[Tensor]]:
        """Tells whether it is a square; and if so x, then whatever was subtracted from x."""
        node = self.nodes[tensor.node]
        if depth > 2 or not node.inputs:
            return False, []
        if node.op == "SquaredDifference":
            data = [t for t in node.inputs if self.has_data(t)]
            rest = [t for t in node.inputs if t not in data]
            return True, [*(data or node.inputs[:1]), *rest]
        if node.op == "Mul":
            left, right = self.peel(node.inputs[0]), self.peel(node.inputs[-1])
            if not (left == right or self._same(left, right)):  # weighted: w * square(x)
                parts = (self._square_of(part, depth + 1) for part in (left, right))
                return next((part for part in parts if part[0]), (False, []))
        elif node.op != "Square" and not (
            node.op == "Pow" and len(node.inputs) == 2 and self.plain_constant(node.inputs[1]) == 2
        ):
            return False, []
        inside = self.peel(node.inputs[0])
        deviation_node = self.nodes[inside.node]
        if deviation_node.op == "Sub" and len(deviation_node.inputs) == 2:
            first, second = deviation_node.inputs
            if not self.has_data(first):
                first, second = second, first
            return True, [first, second]
        return True, [inside]

    def _same(self, left: Tensor, right: Tensor) -> bool:
        """Tells whether two nodes are one expression written twice."""
        one, two = self.nodes[left.node], self.nodes[right.node]
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
        node = self.nodes[self.plain.resolve(tensor).node]
        value = node.attr("value") if node.op == "Const" else None
        return None if value is None else constants.scalar(value.tensor)

    def peel(self, tensor: Tensor, *, reductions: bool = False) -> Tensor:
        """The tensor under casts, reshapes, transposes and other names.

        With `reductions` also under means and sums over other axes than the batch.
        """
        for _ in range(200):
            tensor = self.plain.resolve(tensor)
            node = self.nodes[tensor.node]
            under = node.op in _PEELED or (
                reductions and node.op in _REDUCTIONS and not self.reduces_batch(node)
            )
            if not under or not node.inputs:
                return tensor
            tensor = node.inputs[0]
        self.flat.walks.cut += 1
        return tensor

    def bases(self, tensor: Tensor) -> frozenset[Tensor]:
        """The nearest per-example tensors it is computed from, element by element."""

        def step(current: Tensor) -> list[Tensor]:
            node = self.nodes[current.node]
            inputs = node.inputs[:1] if node.op in _REDUCTIONS else []
            if node.op in PASSED:
                inputs = self.plain.passed_inputs(current)
            return [t for t in inputs if self._may_be_base(t)]

        found = self.flat.walks.reach([tensor] if self._may_be_base(tensor) else [], step, _BASES)
        return frozenset(self.peel(t) for t in found)

    def _may_be_base(self, tensor: Tensor) -> bool:
        node = self.nodes[tensor.node]
        if not self.tainted[node.id] or node.id in self.variables.reading:
            return False
        return node.op not in _REDUCTIONS or bool(node.inputs and not self.reduces_batch(node))
