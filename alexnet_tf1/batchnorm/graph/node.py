"""The pieces of a flat graph: nodes and tensors, and the ids that stand for them."""

from __future__ import annotations

from typing import Any, NamedTuple, NewType

NodeId = NewType("NodeId", int)  # a node's position in the table
VariableId = NewType("VariableId", int)  # the id of the first node that stands for the variable


class Tensor(NamedTuple):
    """One output of one node."""

    node: NodeId
    output: int


class Node:
    """One node of the flat table.

    Attributes:
      id: its position in the table.
      name: its path, e.g. "cond/then/batchnorm/Rsqrt" for a node inside a branch.
      op: the operation, or one of the pseudo-operations of `flatten`.
      definition: its NodeDef (for a pseudo-node, that of the call it belongs to).
      inputs: data inputs.
      controls: ids of the nodes that run before it.
      place: where it stands in the graph: its own id, or that of the outermost call.
      want: for `_Frame`, the value of its input 0 that makes its body run, or None.
    """

    __slots__ = ("controls", "definition", "id", "inputs", "name", "op", "place", "want")

    def __init__(self, node_id: NodeId, name: str, op: str, definition: Any) -> None:
        self.id = node_id
        self.place = node_id
        self.name = name
        self.op = op
        self.definition = definition
        self.inputs: list[Tensor] = []
        self.controls: list[NodeId] = []
        self.want: bool | int | None = None

    def attr(self, key: str) -> Any:
        """The attribute's AttrValue, or None (indexing a proto map would add the key)."""
        return self.definition.attr.get(key)
