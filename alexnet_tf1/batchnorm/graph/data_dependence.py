"""Tells what depends on data from what depends on weights and constants alone."""

from alexnet_tf1.batchnorm.graph.flatten import FlatGraph
from alexnet_tf1.batchnorm.graph.node import Node, NodeId
from alexnet_tf1.batchnorm.graph.shapes import declared_rank
from alexnet_tf1.batchnorm.graph.variables import Variables

_DRAWS = (
    *("Random", "Stateless", "TruncatedNormal", "ParameterizedTruncated", "Multinomial"),
    *("PyFunc", "EagerPyFunc", "Iterator", "Queue", "Reader", "Stateful"),
)
_READERS = frozenset({"ReadFile", "OneShotIterator", "LookupTableFindV2"})
_RUNS = frozenset({"_Arg", "_Loop", "_Ret", "_Call", "_Frame", "Merge", "RefMerge", "NoOp"})
_NEVER_DATA = frozenset(
    """Shape ShapeN Size Rank ZerosLike OnesLike NoOp VarHandleOp RestoreV2 Restore RestoreSlice
    MergeV2Checkpoints _Frame _Call VarIsInitializedOp IsVariableInitialized
    BroadcastGradientArgs""".split()
)
_WRITES = ("Assign", "StatefulPartitionedCall", "StatelessIf", "StatelessWhile", "StatelessCase")


def tainted_nodes(flat: FlatGraph, variables: Variables, order: list[NodeId]) -> bytearray:
    """Marks nodes that depend on data: on inputs, readers, random numbers; not weights."""
    tainted = bytearray(len(flat.nodes))
    loops = any(node.op in ("NextIteration", "_Loop") for node in flat.nodes)
    for _ in range(3 if loops else 1):
        for node_id in order:
            node = flat.nodes[node_id]
            if tainted[node_id] or node.op in _NEVER_DATA or node_id in variables.reading:
                continue
            if any(tainted[t.node] for t in node.inputs) or _is_data_source(node, flat.producer):
                tainted[node_id] = 1
    return tainted


def _is_data_source(node: Node, producer: int) -> bool:
    op = node.op
    if op.startswith("Placeholder"):
        dtype = node.attr("dtype")
        if dtype is not None and dtype.type in (7, 10):  # string, bool
            return False
        # A number alone is a rate or a switch; an unknown shape may be anything.
        return declared_rank(node, producer) != 0
    if op == "Const":
        value, dtype = node.attr("value"), node.attr("dtype")
        floating = dtype is not None and dtype.type in (1, 2, 14, 19)
        return floating and value is not None and len(value.tensor.tensor_shape.dim) >= 2
    if op in _RUNS or op.startswith(_WRITES):
        return False
    return not node.inputs or op.startswith(_DRAWS) or op in _READERS
