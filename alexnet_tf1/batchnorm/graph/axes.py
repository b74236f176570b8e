"""Finds constant integers, ranks and the batch axis, as far as the graph alone tells them."""

from collections.abc import Iterable

from alexnet_tf1.batchnorm.graph import constants
from alexnet_tf1.batchnorm.graph.fold import Folding
from alexnet_tf1.batchnorm.graph.node import Node, Tensor
from alexnet_tf1.batchnorm.graph.ops import PASSED, is_fused
from alexnet_tf1.batchnorm.graph.shapes import declared_rank, recorded_rank

# One element of a list, or one image.
_ITEMS = frozenset(
    """TensorListGetItem TensorArrayReadV3 TensorArrayReadV2 DecodeJpeg DecodePng DecodeImage
    DecodeBmp DecodeAndCropJpeg""".split()
)
_OF_IMAGES = frozenset({"Conv2D", "MaxPool", "AvgPool", "DepthwiseConv2dNative"})
_NESTED = 8
_STEPS = 64


class Axes:
    """Answers on a graph nothing is folded in."""

    def __init__(self, plain: Folding, tainted: bytearray) -> None:
        self.plain = plain
        self.nodes = plain.nodes
        self.walks = plain.flat.walks
        self.tainted = tainted  # by node: 1 if it depends on data; of two operands it counts

    def integers(self, tensor: Tensor, depth: int = 0) -> list[int] | None:
        """A short constant vector of integers, or None; `depth` bounds the search."""
        if depth > _NESTED:
            return None
        node = self.nodes[self.plain.resolve(tensor).node]
        if node.op == "Const":
            value = node.attr("value")
            return None if value is None else constants.vector(value.tensor)
        if node.op in ("Pack", "ConcatV2"):
            parts = node.inputs if node.op == "Pack" else node.inputs[:-1]
            found = [self.integers(t, depth + 1) for t in parts[:_NESTED]]
            return None if None in found else [v for part in found if part for v in part]
        if node.op in ("Reshape", "ExpandDims", "Cast") and node.inputs:
            return self.integers(node.inputs[0], depth + 1)
        return None

    def rank(self, tensor: Tensor) -> int | None:
        """The tensor's rank, from recorded shapes or from what made it; None if unknown."""
        for _ in range(_STEPS):
            node = self.nodes[tensor.node]
            recorded = recorded_rank(node, tensor.output)
            if recorded is not None:
                return recorded
            if node.op in _OF_IMAGES or is_fused(node.op):
                return 4
            if node.op == "MatMul":
                return 2
            if node.op.startswith("Placeholder"):
                return declared_rank(node, self.plain.flat.producer)
            if node.op == "Reshape" and len(node.inputs) > 1:
                return self._reshape_rank(node)
            if node.op not in PASSED or not node.inputs or node.op in ("Pack", "StridedSlice"):
                return None
            # Of two operands of an elementwise operation, the larger one has the rank.
            tensor = next((t for t in node.inputs if self.tainted[t.node]), node.inputs[0])
        self.walks.cut += 1
        return None

    def _reshape_rank(self, node: Node) -> int | None:
        shape = self.nodes[self.plain.resolve(node.inputs[1]).node]
        found = shape.inputs if shape.op == "Pack" else self.integers(node.inputs[1])
        return None if found is None else len(found)

    def batch_axis(self, tensor: Tensor, rank: int | None, axes: Iterable[int]) -> int | None:
        """Finds the axis that counts the examples; None where none does."""
        moves: list[list[int]] = []
        axis: int | None = 0
        for _ in range(_STEPS):
            node = self.nodes[tensor.node]
            if node.op == "Transpose" and len(node.inputs) == 2:
                permutation = self.integers(node.inputs[1])
                if permutation is None:
                    break
                moves.append(permutation)
            elif node.op in ("Reshape", "ExpandDims") and len(node.inputs) == 2:
                if self._leads_with_one(node):
                    return None  # a batch of one made on purpose: layer or instance norm
                break
            elif node.op in _ITEMS:
                # One element of a mapped batch of images: axis 0 is the height.
                if rank == 3 and set(axes) == {0, 1}:
                    return None
                break
            elif node.op not in PASSED or not node.inputs:
                break
            inputs = self.plain.passed_inputs(tensor)
            big = next((t for t in inputs if self.tainted[t.node]), None)
            if big is None:
                break
            tensor = big
        else:
            self.walks.cut += 1
        for permutation in reversed(moves):
            axis = permutation.index(axis) if axis in permutation else None
        return axis

    def _leads_with_one(self, node: Node) -> bool:
        if node.op == "ExpandDims":
            return self.integers(node.inputs[1]) == [0]
        shape = self.nodes[self.plain.resolve(node.inputs[1]).node]
        if shape.op in ("Pack", "ConcatV2") and shape.inputs:
            found = self.integers(shape.inputs[0])
        else:
            found = self.integers(node.inputs[1])
        return bool(found and found[0] == 1)
