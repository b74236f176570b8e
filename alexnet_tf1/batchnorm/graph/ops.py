"""Tables of operations, by what they do to the numbers that go through them."""

from alexnet_tf1.batchnorm.graph.node import Node

# Their output is their input 0, whatever else they do.
_PASSED_IDENTITIES = frozenset(
    """Identity IdentityN RefIdentity StopGradient PreventGradient CheckNumerics CheckNumericsV2
    Snapshot Enter RefEnter Exit RefExit NextIteration RefNextIteration EnsureShape
    _Arg _Ret _Loop Print OptimizationBarrier""".split()
)
IDENTITIES = _PASSED_IDENTITIES | frozenset(
    "LoopCond DebugIdentity DebugIdentityV2 PrintV2 AssertNotNaN XlaSharding".split()
)
MERGES = frozenset({"Merge", "RefMerge", "_Arg", "_Ret", "_Loop"})
SWITCHES = frozenset({"Switch", "RefSwitch"})
SELECTS = frozenset({"Select", "SelectV2"})
SHAPE_LIKE = frozenset(
    """Shape ShapeN Size Rank VariableShape BroadcastGradientArgs ZerosLike OnesLike
    IsVariableInitialized VarIsInitializedOp""".split()
)
PRODUCTS = frozenset({"Mul", "RealDiv", "Div", "DivNoNan", "MulNoNan"})
SUMS = frozenset({"Add", "AddV2", "Sub", "AddN"})
# Products of examples and weights: one input is the one, another the other.
LINEAR = frozenset(
    """MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 Conv2D DepthwiseConv2dNative Conv3D
    Conv2DBackpropInput Conv3DBackpropInputV2""".split()
)
# They keep the batch axis where it is and work element by element on their inputs.
ELEMENTWISE = (
    PRODUCTS
    | SUMS
    | SELECTS
    | frozenset(
        """Neg Abs Square Sqrt Rsqrt Pow Reciprocal Inv Maximum Minimum SquaredDifference Exp Log
        Relu Relu6 Elu Selu LeakyRelu Sigmoid Tanh Softplus Cast BiasAdd ClipByValue Real Conj
        Accumulate AccumulateNV2""".split()
    )
)
FIRST_ONLY = SWITCHES | frozenset(
    """Reshape Squeeze ExpandDims BroadcastTo Tile Transpose Slice StridedSlice GatherV2 Gather
    SplitV FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel
    QuantizeAndDequantizeV2 QuantizeAndDequantizeV3""".split()
)
SECOND_ONLY = frozenset({"Split", "Concat", "Fill"})
# They move numbers about and leave them unchanged, or average them over devices.
_CARRIERS = frozenset(
    """Pack Unpack ConcatV2 NcclAllReduce NcclReduce NcclBroadcast CollectiveReduce
    CollectiveReduceV2 CollectiveReduceV3 CrossReplicaSum XlaAllReduce HorovodAllreduce AllToAll
    Bitcast""".split()
)
PASSED = ELEMENTWISE | _PASSED_IDENTITIES | MERGES | FIRST_ONLY | SECOND_ONLY | _CARRIERS
_APPLY_PREFIXES = ("Apply", "ResourceApply", "SparseApply", "ResourceSparseApply")
_FUSED = frozenset(
    f"{prefix}FusedBatchNorm{suffix}"
    for prefix in ("", "_", "_Mkl", "_MklNative", "_Native")
    for suffix in ("", "V2", "V3", "Ex")
)


def is_fused(op: str) -> bool:
    """Tells whether the operation is batch normalisation in one kernel, forward."""
    return op in _FUSED


def fused_is_training(node: Node) -> bool:
    """Tells whether a fused node uses batch statistics; the attribute's default is True."""
    value = node.attr("is_training")
    return True if value is None else bool(value.b)


def is_apply(op: str) -> bool:
    """Tells whether the operation is an optimiser's step on one variable."""
    return op.startswith(_APPLY_PREFIXES)
