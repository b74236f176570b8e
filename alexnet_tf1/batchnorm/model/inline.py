"""Replaces a graph's function calls by what they call, so that every operation can be reached."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow.compat.v1 as tf
from tensorflow.python.grappler import tf_optimizer

from alexnet_tf1.batchnorm.graph.flatten import FlatGraph
from alexnet_tf1.errors import UserError

_BRANCHING = ("If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase")


def inlined(flat: FlatGraph, graph_def: Any, keep: Iterable[str], name: str) -> Any:
    """Inlines all functions of a graph, as a session does before it runs one.

    Args:
      flat: the same graph as a table.
      graph_def: the graph; it is not changed. Without functions it is the result.
      keep: operations that must keep their names.
      name: the graph's, for messages.

    Returns:
      A GraphDef: `If` and `While` have become TensorFlow 1's Switch and Merge.

    Raises:
      UserError: if TensorFlow cannot inline the graph.
    """
    if all(node.op not in ("_Call", "_Frame") for node in flat.nodes):
        return graph_def
    if flat.truncated:
        raise UserError(f"{name}: {flat.truncated[0]} calls itself or too much; it cannot be run")
    meta = tf.MetaGraphDef()
    meta.graph_def.CopyFrom(graph_def)
    for node in meta.graph_def.node:
        if node.op in _BRANCHING:
            node.attr["_lower_using_switch_merge"].b = True
    meta.collection_def["train_op"].node_list.value.extend(sorted(set(keep)))
    config = tf.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    rewrites.min_graph_nodes = -1  # small graphs too
    rewrites.optimizers.append("function")
    try:
        return tf_optimizer.OptimizeGraph(config, meta)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{name}: its functions cannot be inlined ({reason}); run the TensorFlow that wrote it"
        ) from None
