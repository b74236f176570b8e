"""Finds a graph's variables, their reads and writes, and the writes that change nothing."""

from dataclasses import dataclass

from alexnet_tf1.batchnorm.graph.flatten import FlatGraph
from alexnet_tf1.batchnorm.graph.fold import Folding
from alexnet_tf1.batchnorm.graph.node import Node, NodeId, Tensor, VariableId
from alexnet_tf1.batchnorm.graph.ops import SELECTS, SUMS, is_apply

_REF_VARIABLES = frozenset({"Variable", "VariableV2", "AutoReloadVariable"})
# Their output 0 is their input 0: the variable itself.
_HOLDS_REF = frozenset(
    """Identity RefIdentity Switch RefSwitch Merge RefMerge Enter RefEnter Exit RefExit
    NextIteration RefNextIteration _Arg _Ret _Loop Assign AssignAdd AssignSub CountUpTo
    ScatterUpdate ScatterAdd ScatterSub""".split()
)
# The kind of write, and which input holds the value, by operation.
_WRITES = {
    f"Assign{kind}{suffix}": (kind.lower() or "set", 1)
    for kind in ("", "Add", "Sub")
    for suffix in ("", "VariableOp")
} | {
    f"{prefix}Scatter{kind}": (kind.lower(), 2)
    for prefix in ("", "Resource")
    for kind in ("Update", "Add", "Sub", "NdUpdate", "NdAdd", "NdSub", "Mul", "Div", "Min", "Max")
}
_HOLDERS = 1_000  # names of names of a variable
_AFFINE_STEPS = 120  # an update's expression is short; give up on a long one


_Terms = dict[VariableId | Tensor | str, float]


@dataclass(frozen=True)
class Write:
    """One operation that writes one variable."""

    node: NodeId  # the operation's id
    variable: VariableId  # the variable's id (see `Variables`)
    kind: str  # "set", "add" or "sub" (of `value`), a scatter's kind, or "apply" (an optimiser)
    value: Tensor | None  # the tensor written, added or subtracted; None for an optimiser


class Variables:
    """Every variable of a flat graph, by the id of the first node that stands for it."""

    def __init__(self, flat: FlatGraph) -> None:
        self.flat = flat
        self.nodes = flat.nodes
        self.names: dict[VariableId, str] = {}  # of their operations
        self.writes: dict[VariableId, list[Write]] = {}
        self.write_of: dict[NodeId, Write] = {}
        self.reading: dict[NodeId, VariableId] = {}  # by node whose output 0 is the value
        self._held: dict[NodeId, VariableId | None] = {}
        self._steps = 0
        shared: dict[tuple[bytes, bytes], VariableId] = {}
        for node in self.nodes:
            if node.op in _REF_VARIABLES or node.op == "VarHandleOp":
                self._declare(node, shared)
        for node in self.nodes:
            self._note_use(node)

    def _declare(self, node: Node, shared: dict[tuple[bytes, bytes], VariableId]) -> None:
        """Gives the node its variable: handles of one shared name are one variable."""
        values = [node.attr(key) for key in ("container", "shared_name")]
        container, name = (b"" if value is None else value.s for value in values)
        first = VariableId(node.id)
        if name and not name.startswith(b"cd2c89b7"):  # the anonymous name
            first = shared.setdefault((container, name), first)
        self._held[node.id] = first
        self.names.setdefault(first, node.name)
        if node.op in _REF_VARIABLES:
            self.reading[node.id] = first

    def _note_use(self, node: Node) -> None:
        reads = node.op == "ReadVariableOp"
        kind, value_at = _WRITES.get(node.op, ("apply", 0) if is_apply(node.op) else ("", 0))
        if not (reads or kind) or len(node.inputs) <= value_at:
            return
        variable = self.held_by(node.inputs[0])
        if variable is None:
            return
        if reads:
            self.reading[node.id] = variable
            return
        write = Write(node.id, variable, kind, node.inputs[value_at] if value_at else None)
        self.writes.setdefault(variable, []).append(write)
        self.write_of[node.id] = write

    def held_by(self, tensor: Tensor) -> VariableId | None:
        """The variable whose handle or reference the tensor is, or None."""
        found, path = None, []
        for _ in range(_HOLDERS):
            node = self.nodes[tensor.node]
            if node.id in self._held:
                found = self._held[node.id]
                break
            path.append(node.id)
            if node.op not in _HOLDS_REF or not node.inputs:
                break
            tensor = node.inputs[0]
        else:
            self.flat.walks.cut += 1
        self._held.update(dict.fromkeys(path, found))
        return found

    def changes(self, write: Write, folding: Folding) -> bool:
        """Tells whether the write runs and can change its variable under the folding."""
        if not folding.runs(write.node):
            return False
        if write.value is None:
            return True
        self._steps = 0
        terms = self._affine(write.value, folding)
        self.flat.walks.cut += self._steps > _AFFINE_STEPS
        if terms is None:
            return True
        if write.kind == "set":
            if abs(terms.pop(write.variable, 0.0) - 1.0) > 1e-6:
                return True
        elif write.kind not in ("add", "sub"):
            return True
        return any(abs(c) > 1e-12 for c in terms.values())

    def kept(self, write: Write, folding: Folding) -> float | None:
        """The share of the variable's old value that the write keeps; None if it is not certain.

        Of an average with decay 0.99 it is 0.99, however the update is written.
        """
        if write.value is None or not folding.runs(write.node):
            return None
        self._steps = 0
        terms = self._affine(write.value, folding)
        if terms is None or write.kind not in ("set", "add", "sub"):
            return None
        own = terms.get(write.variable, 0.0)
        kept = {"set": own, "add": 1.0 + own, "sub": 1.0 - own}[write.kind]
        return kept if 0.0 <= kept < 1.0 else None

    def _affine(self, tensor: Tensor, folding: Folding) -> _Terms | None:
        """The tensor as a weighted sum; None if it is too long or never computed.

        The weights are by variable, by tensor that is not looked into, and "one" for constants.
        """
        tensor = folding.resolve(tensor)
        known = folding.value(tensor)
        if known is not None and not isinstance(known, str):
            return {"one": float(known)} if known else {}
        node = self.nodes[tensor.node]
        if node.id in self.reading and tensor.output == 0:
            return {self.reading[node.id]: 1.0}
        self._steps += 1
        if self._steps > _AFFINE_STEPS or folding.is_dead(tensor):
            return None
        parts = node.inputs
        if parts and node.op in SUMS:
            return self._affine_sum(node, folding)
        if parts and node.op == "Neg":
            return _scaled(self._affine(parts[0], folding), -1.0)
        if parts and node.op in ("Cast", "Reshape", "Squeeze", "ExpandDims"):
            return self._affine(parts[0], folding)
        found = None
        if node.op in ("Mul", "RealDiv", "Div", "DivNoNan") and len(parts) == 2:
            found = self._affine_product(node, folding)
        elif node.op in SELECTS and len(parts) == 3:
            one, two = (self._affine(part, folding) for part in parts[1:])
            found = one if one == two else None
        return {tensor: 1.0} if found is None else found

    def _affine_sum(self, node: Node, folding: Folding) -> _Terms | None:
        total: _Terms = {}
        for k, part in enumerate(node.inputs):
            sign = -1.0 if node.op == "Sub" and k == 1 else 1.0
            terms = self._affine(part, folding)
            if terms is None:
                return None
            for key, coefficient in terms.items():
                total[key] = total.get(key, 0.0) + sign * coefficient
        return {k: c for k, c in total.items() if abs(c) > 1e-6}

    def _affine_product(self, node: Node, folding: Folding) -> _Terms | None:
        """A product with a known factor, or with a factor that is zero; else None."""
        left, right = node.inputs
        for factor, other in ((right, left), (left, right)):
            known = folding.value(factor)
            terms = self._affine(other, folding)
            if terms is None:
                continue
            if not any(terms.values()) and (node.op == "Mul" or other == left):
                return {"one": 0.0}
            if known is None or isinstance(known, str):
                continue
            if node.op == "Mul":
                return _scaled(terms, float(known))
            if factor == right and known:
                return {k: c / float(known) for k, c in terms.items()}
        return None


def _scaled(terms: _Terms | None, factor: float) -> _Terms | None:
    return None if terms is None else {key: c * factor for key, c in terms.items()}
