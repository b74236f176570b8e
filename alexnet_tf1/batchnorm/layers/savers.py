"""Finds what the Savers of a graph save."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from alexnet_tf1.batchnorm.graph.node import Node, VariableId
from alexnet_tf1.batchnorm.layers.provenance import Provenance

# By operation, the input that holds the names and the first one that holds a tensor.
_SAVES = {"SaveV2": (1, 3), "Save": (1, 2), "SaveSlices": (1, 3)}


class Saved(NamedTuple):
    """A variable that a Saver saves."""

    key: str  # its name in the checkpoint
    part: str  # of a variable kept in parts, the whole's shape and the part's place; else empty
    variable: VariableId


def saved_variables(provenance: Provenance) -> dict[str, VariableId]:
    """Finds the variables that the graph's Savers save, by their names in the checkpoint.

    Args:
      provenance: the graph, unfolded.

    Returns:
      All Savers together: one of them may only be there to restore a part. Empty without any.
    """
    found: dict[str, VariableId] = {}
    for saved in saves(provenance):
        found.setdefault(saved.key, saved.variable)
    return found


def saves(provenance: Provenance) -> Iterator[Saved]:
    """Finds everything that the graph's Savers save, in the order of the graph."""
    for node in provenance.nodes:
        if node.op not in _SAVES:
            continue
        names_at, first = _SAVES[node.op]
        tensors, names = node.inputs[first:], _texts(node, names_at, provenance)
        parts = _texts(node, 2, provenance) if first == 3 else [""] * len(names)
        for name, part, tensor in zip(names, parts, tensors, strict=False):
            variables = provenance.sources(tensor).variables
            if len(variables) == 1:
                yield Saved(name, part, *variables)


def _texts(node: Node, at: int, provenance: Provenance) -> list[str]:
    """The strings of a constant input; none if it is no constant."""
    names = provenance.nodes[node.inputs[at].node] if len(node.inputs) > at else node
    value = names.attr("value")
    if names.op != "Const" or value is None:
        return []
    try:
        return [text.decode("utf-8", "replace") for text in tf.make_ndarray(value.tensor).flat]
    except (ValueError, TypeError, AttributeError):  # a damaged graph
        return []
