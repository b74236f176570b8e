"""Reads the shapes that a graph records: as ranks, which is all that is asked for here."""

from __future__ import annotations

from alexnet_tf1.batchnorm.graph.node import Node

# Up to this producer a placeholder's empty `shape` means that its shape is not known, as it
# always does for the operation Variable: TensorFlow reads them so too (array_ops.cc).
_LAST_AMBIGUOUS = 21


def recorded_rank(node: Node, output: int) -> int | None:
    """The rank of an output by `_output_shapes`; None where that says nothing."""
    recorded = node.attr("_output_shapes")
    if recorded is None or node.op in ("_Arg", "_Ret", "_Loop"):  # they only borrow a definition
        return None
    shapes = recorded.list.shape
    known = output < len(shapes) and not shapes[output].unknown_rank
    return len(shapes[output].dim) if known else None


def declared_rank(node: Node, producer: int) -> int | None:
    """The rank that a placeholder or a variable is declared with; None if it is not known.

    Args:
      node: the placeholder or the variable.
      producer: the version of the graph's format, `versions.producer` of the GraphDef.

    Returns:
      The rank; 0 is a single number.
    """
    shape = node.attr("shape")
    if shape is not None and not shape.shape.unknown_rank:
        ambiguous = node.op == "Variable" or (
            node.op == "Placeholder"
            and (producer <= _LAST_AMBIGUOUS or node.attr("_output_shapes") is not None)
        )
        if shape.shape.dim or not ambiguous:
            return len(shape.shape.dim)
    return None if node.op == "VarHandleOp" else recorded_rank(node, 0)
