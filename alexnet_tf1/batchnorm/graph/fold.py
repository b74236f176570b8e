"""Holds the training switch at one value and finds what is then known, dead, reached."""

from collections.abc import Iterable, Mapping

from alexnet_tf1.batchnorm.graph import constants
from alexnet_tf1.batchnorm.graph.constants import Scalar
from alexnet_tf1.batchnorm.graph.flatten import FlatGraph
from alexnet_tf1.batchnorm.graph.node import Node, NodeId, Tensor
from alexnet_tf1.batchnorm.graph.ops import (
    FIRST_ONLY,
    IDENTITIES,
    MERGES,
    SECOND_ONLY,
    SELECTS,
    SHAPE_LIKE,
    SWITCHES,
    fused_is_training,
    is_fused,
)

_VALUE_UNCHANGED = frozenset(
    "Reshape Squeeze ExpandDims BroadcastTo Tile Bitcast Transpose Pack".split()
)
_ZERO_WINS = frozenset({"Mul", "MulNoNan", "LogicalAnd"})
_PENDING = 2
# By operation, the first and the second operand that leave the other one as it is.
_NEUTRAL_FIRST = {"Add": 0, "AddV2": 0, "Mul": 1}
_NEUTRAL = (_NEUTRAL_FIRST, _NEUTRAL_FIRST | {"Sub": 0, "RealDiv": 1, "Div": 1})


class Folding:
    """The graph under an assumption about some tensors, evaluated in the order of the nodes.

    Without an order nothing is evaluated: every branch is live and every input counts.
    """

    def __init__(
        self,
        flat: FlatGraph,
        assumed: Mapping[Tensor, Scalar] | None = None,
        order: list[NodeId] | None = None,
    ) -> None:
        self.flat = flat
        self.nodes = flat.nodes
        self.assumed = dict(assumed or {})
        self.values: dict[NodeId, Scalar] = {}
        self.alias: dict[NodeId, Tensor] = {}
        self._switch: dict[NodeId, bool] = {}  # the live output of a switch
        self._folds = order is not None
        self.dead = bytearray([_PENDING if self._folds else 0]) * len(self.nodes)
        for node_id in order or ():
            self._evaluate(self.nodes[node_id])
        if not self._folds:
            for node in self.nodes:
                if node.op in IDENTITIES and len(node.inputs) == 1:
                    self.alias[node.id] = node.inputs[0]

    # ---- what is known ---------------------------------------------------------------

    def value(self, tensor: Tensor) -> Scalar | None:
        """The scalar that the tensor is (or is filled with), if it is known."""
        return self.assumed.get(tensor, self.values.get(tensor.node))

    def runs(self, node_id: NodeId) -> bool:
        """Tells whether the node runs if something asks for it."""
        return self.dead[node_id] != 1

    def is_dead(self, tensor: Tensor) -> bool:
        """Tells whether the tensor is never computed."""
        if self.dead[tensor.node] == 1:
            return True
        live = self._switch.get(tensor.node)
        return live is not None and bool(tensor.output) != live

    def resolve(self, tensor: Tensor) -> Tensor:
        """The tensor that this one is only another name for."""
        for _ in range(10_000):
            after = self.alias.get(tensor.node)
            if after is None or tensor in self.assumed:
                return tensor
            tensor = after
        self.flat.walks.cut += 1
        return tensor

    # ---- evaluation ------------------------------------------------------------------

    def _evaluate(self, node: Node) -> None:
        node_id, op = node.id, node.op
        if op in MERGES:
            self._evaluate_merge(node)
            return
        self.dead[node_id] = self._is_dead_node(node)
        if op == "Const":
            value = node.attr("value")
            known = constants.scalar(value.tensor) if value is not None else None
        elif op in SWITCHES:
            known = self._evaluate_switch(node)
        else:
            known = self._known(node)
        if known is not None:
            self.values[node_id] = known

    def _is_dead_node(self, node: Node) -> int:
        if node.op == "_Call":
            frames = [c for c in node.controls if self.nodes[c].op == "_Frame"]
            return int(bool(frames) and all(self.dead[c] == 1 for c in frames))
        if any(self.dead[c] == 1 for c in node.controls) or any(map(self.is_dead, node.inputs)):
            return 1
        if node.op == "_Frame" and node.want is not None and node.inputs:
            chosen = self.value(node.inputs[0])
            if chosen is not None and not isinstance(chosen, str):
                return int((bool(chosen) if isinstance(node.want, bool) else chosen) != node.want)
        return 0

    def _evaluate_merge(self, node: Node) -> None:
        """A merge lives if any input does, and is its only live input."""
        if node.op == "_Arg" and any(self.dead[c] == 1 for c in node.controls):
            self.dead[node.id] = 1
            return
        live = [t for t in node.inputs if self.dead[t.node] != _PENDING and not self.is_dead(t)]
        pending = any(self.dead[t.node] == _PENDING for t in node.inputs)
        self.dead[node.id] = int(not live and not pending and bool(node.inputs))
        if pending or not live:
            return
        if len(live) == 1:
            self.alias[node.id] = live[0]
        known = self._common(live)
        if known is not None:
            self.values[node.id] = known

    def _common(self, tensors: list[Tensor]) -> Scalar | None:
        """The one value that all of them have, if it is known."""
        values = {self.value(t) for t in tensors}
        return values.pop() if len(values) == 1 else None

    def _evaluate_switch(self, node: Node) -> Scalar | None:
        if len(node.inputs) < 2:
            return None
        predicate = self.value(node.inputs[1])
        if predicate is not None:
            self._switch[node.id] = bool(predicate)
        self.alias[node.id] = node.inputs[0]
        return self.value(node.inputs[0])

    def _known(self, node: Node) -> Scalar | None:
        """Folds one operation; also notes what it passes on unchanged."""
        op, inputs = node.op, node.inputs
        if not inputs:
            return None
        if op in IDENTITIES:
            if op == "IdentityN" and len(inputs) > 1:
                return None
            self.alias[node.id] = inputs[0]
            return self.value(inputs[0])
        if op in ("ZerosLike", "OnesLike"):
            return int(op == "OnesLike")
        if op == "Cast":
            value, to = self.value(inputs[0]), node.attr("DstT")
            return constants.cast(value, to.type) if value is not None and to is not None else None
        if op in SELECTS and len(inputs) == 3:
            chosen = self.value(inputs[0])
            if chosen is None:
                return None
            self.alias[node.id] = inputs[1 if chosen else 2]
            return self.value(self.alias[node.id])
        if op == "Fill":
            return self.value(inputs[1]) if len(inputs) > 1 else None
        if op in _VALUE_UNCHANGED:
            return self._common(inputs if op == "Pack" else inputs[:1])
        return self._known_arithmetic(node) if op in constants.FOLDED_OPS else None

    def _known_arithmetic(self, node: Node) -> Scalar | None:
        operands = [self.value(t) for t in node.inputs]
        if node.op in ("Any", "All"):
            operands = operands[:1]
        known = [v for v in operands if v is not None]
        if len(known) == len(operands):
            return constants.apply(node.op, known)
        if node.op in _ZERO_WINS and any(v == 0 and not isinstance(v, str) for v in known):
            return False if node.op == "LogicalAnd" else 0
        if node.op == "LogicalOr" and any(known):
            return True
        if len(operands) == 2 and known:
            # x + 0, x - 0, 1 * x and x / 1 are only x.
            at = 0 if operands[0] is not None else 1  # the one that is known
            if node.op in _NEUTRAL[at] and operands[at] == _NEUTRAL[at][node.op]:
                self.alias[node.id] = node.inputs[1 - at]
        return None

    # ---- walks -----------------------------------------------------------------------

    def data_inputs(self, tensor: Tensor) -> list[Tensor]:
        """The tensors whose values this one's value depends on, one step back."""
        node = self.nodes[tensor.node]
        if not self._folds:
            return node.inputs if node.op not in SHAPE_LIKE else []
        if tensor in self.assumed or node.id in self.values or node.op in SHAPE_LIKE:
            return []
        if node.op in MERGES:
            return [t for t in node.inputs if not self.is_dead(t)]
        after = self.alias.get(node.id)
        if after is not None:
            return [after]
        if is_fused(node.op) and tensor.output == 0 and fused_is_training(node):
            return node.inputs[:3]
        return node.inputs

    def passed_inputs(self, tensor: Tensor) -> list[Tensor]:
        """The inputs whose numbers an operation of `ops.PASSED` passes on, in live branches."""
        op, inputs = self.nodes[tensor.node].op, self.data_inputs(tensor)
        if op in FIRST_ONLY:
            return inputs[:1]
        if op in SECOND_ONLY or (op in SELECTS and len(inputs) == 3):
            return inputs[1:]
        return inputs[:-1] if op == "ConcatV2" and len(inputs) > 1 else inputs

    def data_cone(self, tensors: Iterable[Tensor]) -> set[Tensor]:
        """Every tensor whose value these tensors' values depend on, they included."""

        def step(tensor: Tensor) -> list[Tensor]:
            return [t for t in self.data_inputs(tensor) if not self.is_dead(t)]

        live = [t for t in tensors if not self.is_dead(t)]
        return set(self.flat.walks.reach(live, step))

    def executed(self, nodes: Iterable[NodeId]) -> set[NodeId]:
        """Every node that runs when these are run (data and control edges).

        A session prunes by the edges alone, before it knows which branch is taken: what only a
        dead node waits for runs too, unless it is dead itself.
        """

        def step(node_id: NodeId) -> list[NodeId]:
            node = self.nodes[node_id]
            return node.controls + [t.node for t in node.inputs]

        return set(filter(self.runs, self.flat.walks.reach(nodes, step)))


def evaluation_order(flat: FlatGraph) -> list[NodeId]:
    """All node ids, each after its inputs and controls except along loops' back edges."""
    nodes = flat.nodes
    done = bytearray(len(nodes))
    order: list[NodeId] = []
    for last in nodes:
        if done[last.id]:
            continue
        done[last.id] = 1
        stack = [(last.id, iter(_before(last, nodes)))]
        while stack:
            node_id, pending = stack[-1]
            for source in pending:
                if not done[source]:
                    done[source] = 1
                    stack.append((source, iter(_before(nodes[source], nodes))))
                    break
            else:
                order.append(node_id)
                stack.pop()
    return order


def _before(node: Node, nodes: list[Node]) -> list[NodeId]:
    if node.op == "_Loop":
        return [t.node for t in node.inputs[:1]]
    if node.op in ("Merge", "RefMerge"):
        entries = [t.node for t in node.inputs if not nodes[t.node].op.endswith("NextIteration")]
        return node.controls + entries
    return node.controls + [t.node for t in node.inputs]
