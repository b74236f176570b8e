"""The pieces of a flat graph: nodes and tensors, and the ids that stand for them."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, NewType

NodeId = NewType("NodeId", int)  # a node's position in the table
VariableId = NewType("VariableId", int)  # the id of the first node that stands for the variable


class Tensor(NamedTuple):
    """One output of one node."""

    node: NodeId
    output: int


@dataclass(eq=False, slots=True)
class Node:
    """One node of the flat table."""

    id: NodeId  # its position in the table
    name: str  # its path, e.g. "cond/then/batchnorm/Rsqrt" for a node inside a branch
    op: str  # the operation, or one of the pseudo-operations of `flatten`
    definition: Any  # its NodeDef (for a pseudo-node, that of the call it belongs to)
    place: NodeId  # where it stands in the graph: its own id, or that of the outermost call
    inputs: list[Tensor] = field(default_factory=list)  # data inputs
    controls: list[NodeId] = field(default_factory=list)  # the nodes that run before it
    want: bool | int | None = None  # of a `_Frame`, the value of its input 0 that makes it run
    function: str = ""  # the one in whose body the definition stands; empty at the top level

    def attr(self, key: str) -> Any:
        """The attribute's AttrValue, or None (indexing a proto map would add the key)."""
        return self.definition.attr.get(key)
