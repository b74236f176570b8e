"""Operations that a statistic passes through on its way from the data to where it is used."""

from __future__ import annotations

from alexnet_tf1.batchnorm.graph.flatten import Node, Tensor
from alexnet_tf1.batchnorm.graph.fold import SELECTS, Folding

# They keep the batch axis where it is and work element by element on their inputs.
ELEMENTWISE = frozenset(
    """Add AddV2 Sub Mul RealDiv Div DivNoNan MulNoNan AddN Neg Abs Square Sqrt Rsqrt Pow
    Reciprocal Inv Maximum Minimum SquaredDifference Exp Log Relu Relu6 Elu Selu LeakyRelu
    Sigmoid Tanh Softplus Cast Select SelectV2 BiasAdd ClipByValue Real Conj
    Accumulate AccumulateNV2""".split()
)
# They move numbers about and leave them unchanged, or average them over devices.
_CARRIERS = frozenset(
    """Identity IdentityN RefIdentity StopGradient PreventGradient CheckNumerics CheckNumericsV2
    Snapshot Enter RefEnter Exit RefExit NextIteration RefNextIteration EnsureShape Merge RefMerge
    Switch RefSwitch _Arg _Ret _Loop Print Reshape Squeeze ExpandDims BroadcastTo Tile Transpose
    Pack Unpack ConcatV2 Concat Split SplitV Slice StridedSlice GatherV2 Gather Fill
    NcclAllReduce NcclReduce NcclBroadcast CollectiveReduce CollectiveReduceV2 CollectiveReduceV3
    CrossReplicaSum XlaAllReduce HorovodAllreduce AllToAll Bitcast OptimizationBarrier""".split()
)
_FIRST_ONLY = frozenset(
    """Reshape Squeeze ExpandDims BroadcastTo Tile Transpose Slice StridedSlice GatherV2 Gather
    Switch RefSwitch SplitV""".split()
)
PASSED = ELEMENTWISE | _CARRIERS
_SECOND_ONLY = frozenset({"Split", "Concat", "Fill"})


def passed_inputs(node: Node, folding: Folding, tensor: Tensor) -> list[Tensor]:
    """The inputs whose numbers a node of PASSED passes on, in live branches."""
    inputs = folding.data_inputs(tensor)
    if node.op in _FIRST_ONLY:
        return inputs[:1]
    if node.op in _SECOND_ONLY:
        return inputs[1:]
    if node.op in SELECTS and len(inputs) == 3:
        return inputs[1:]
    return inputs[:-1] if node.op == "ConcatV2" and len(inputs) > 1 else inputs
