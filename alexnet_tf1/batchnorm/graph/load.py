"""Reads a graph, wherever it lies, into plain protocol buffers; nothing is imported or run."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.framework import variable_pb2
from tensorflow.core.protobuf import saved_model_pb2

from alexnet_tf1.batchnorm.graph.locate import FORMS, locate
from alexnet_tf1.batchnorm.graph.node import Node
from alexnet_tf1.batchnorm.graph.places import DebugInfo, place_of
from alexnet_tf1.checkpoint.pointer import refuse_pointer
from alexnet_tf1.errors import UserError

TRAINABLE = "trainable_variables"
TRAIN_OP = "train_op"
UPDATE_OPS = "update_ops"
_COLLECTIONS = (TRAIN_OP, TRAINABLE, UPDATE_OPS)
# Of the file, which takes about twice as much memory; and of all its functions together. What is
# larger is data: a graph that trains keeps its weights in a checkpoint.
MAX_BYTES, MAX_OPERATIONS = 10**9, 10**6


@dataclass
class GraphSource:
    """A graph as protos, with what its collections and signatures say about it."""

    graph_def: Any  # the GraphDef with its function library
    # names of operations or variables, by collection name
    collections: dict[str, list[str]] = field(default_factory=dict)
    # tensor names of the chosen signature's outputs (SavedModel only)
    outputs: list[str] = field(default_factory=list)
    # tensor names of its inputs, by the signature's name for them
    inputs: dict[str, str] = field(default_factory=dict)
    # OpDefs that the file carries for its own operations, by name
    op_defs: dict[str, Any] = field(default_factory=dict)
    meta: Any = None  # the MetaGraphDef that holds the graph, where one does
    inference_only: bool = False  # True for a SavedModel, which may lawfully lack a training op
    checkpoint: str | None = None  # the prefix of the checkpoint beside the graph
    # tells where in the user's code an operation was built
    place: Callable[[Node], str | None] = lambda node: None


def from_object(graph: Any) -> GraphSource:
    """Takes a tf.Graph, or the GraphDef, MetaGraphDef or SavedModel that holds one.

    Raises:
      UserError: for anything else.
    """
    if isinstance(graph, tf.GraphDef):
        return GraphSource(graph)
    if isinstance(graph, tf.MetaGraphDef):
        return _from_meta_graph(graph)
    if isinstance(graph, saved_model_pb2.SavedModel):
        return _from_saved_model(graph, "the SavedModel", None, None)
    if hasattr(graph, "as_graph_def") and hasattr(graph, "get_collection"):
        collections = {
            key: [_operation_name(str(getattr(item, "name", item))) for item in items]
            for key, items in ((key, graph.get_collection(key)) for key in _COLLECTIONS)
        }
        place = functools.partial(place_of, graph)
        return GraphSource(graph.as_graph_def(add_shapes=True), collections, place=place)
    raise UserError(
        f"graph is a {type(graph).__name__}; give a tf.Graph, GraphDef, MetaGraphDef or SavedModel"
    )


def from_file(
    path: str | os.PathLike[str], tags: Sequence[str] | None = None, signature: str | None = None
) -> GraphSource:
    """Reads the graph that a path stands for.

    Args:
      path: as `locate.locate` takes it.
      tags: tags of the wanted MetaGraph in a SavedModel; None: the only or the serving one.
      signature: name of the signature whose outputs are the logits; None: the usual one.

    Raises:
      UserError: if there is no graph to be read there.
    """
    where, checkpoint = locate(path)
    data = _bytes_of(where)
    found = _parsed_graph(data, where.suffix)
    if isinstance(found, saved_model_pb2.SavedModel):
        source = _from_saved_model(found, str(path), tags, signature)
        source.place = DebugInfo(where.parent / "debug" / "saved_model_debug_info.pb").place_of
    elif tags is not None or signature is not None:
        raise UserError(f"{where} is no SavedModel; --tags and --signature are for those")
    elif found is None:
        raise UserError(_no_graph(where, data))
    else:
        source = from_object(found)
    count = sum(map(len, (source.graph_def.node, *_bodies(source.graph_def))))
    if count > MAX_OPERATIONS:
        raise UserError(
            f"{where} holds {count:,} operations; at most {MAX_OPERATIONS:,} are read; write the "
            "part that normalises with tf.graph_util.extract_sub_graph"
        )
    source.checkpoint = checkpoint
    return source


def _bodies(graph_def: Any) -> list[Any]:
    return [function.node_def for function in graph_def.library.function]


def _parsed_graph(data: bytes, suffix: str) -> Any:
    """The SavedModel, MetaGraphDef or GraphDef in a file; None if it is something else."""
    if suffix == ".pbtxt":
        parse, kinds = _parsed_text, (tf.GraphDef, tf.MetaGraphDef, saved_model_pb2.SavedModel)
    elif suffix == ".pb":
        parse, kinds = _parsed, (saved_model_pb2.SavedModel, tf.GraphDef, tf.MetaGraphDef)
    else:
        parse, kinds = _parsed, (tf.MetaGraphDef, tf.GraphDef, saved_model_pb2.SavedModel)
    for kind in kinds:
        message = parse(kind(), data)
        if message is not None and any(map(_holds_nodes, _graphs_in(message))):
            return message
    return None


def _no_graph(where: Path, data: bytes) -> str:
    """Says that the file holds no graph that can be read, and what to name instead."""
    if b"brain.Event:" in data[:64]:  # the version, in the first record of each
        return (
            f"{where} is TensorBoard's event file, whose graph is not read; name the .meta file or "
            "the graph.pbtxt that the program wrote beside its checkpoints"
        )
    return f"{where} holds no graph; name {FORMS}"


def _graphs_in(message: Any) -> list[Any]:
    if isinstance(message, tf.GraphDef):
        return [message]
    if isinstance(message, tf.MetaGraphDef):
        return [message.graph_def]
    return [meta.graph_def for meta in message.meta_graphs]


def _bytes_of(where: Path) -> bytes:
    """The file's content; a UserError that says why if there is none."""
    if not os.path.isfile(where):  # a pipe would wait, a device never end
        raise UserError(f"{where} is not a file; name {FORMS}")
    try:
        if (size := where.stat().st_size) > MAX_BYTES:
            raise UserError(
                f"{where} has {size:,} bytes; at most {MAX_BYTES:,} are read; keep "
                "large constants in a checkpoint"
            )
        refuse_pointer(where)
        data = where.read_bytes()
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror}") from error
    if not data:
        raise UserError(f"{where} is empty; write the graph again with tf.train.Saver or export")
    return data


def _parsed(message: Any, data: bytes) -> Any:
    """The message parsed from data, or None if data is something else."""
    try:
        message.ParseFromString(data)
    except (DecodeError, ValueError):
        return None
    return message


def _parsed_text(message: Any, data: bytes) -> Any:
    """The message parsed from its text format, or None if data is something else."""
    try:
        text_format.Parse(data, message)
    except (text_format.ParseError, ValueError, RecursionError):
        return None
    return message


def _holds_nodes(graph_def: Any) -> bool:
    # Random bytes now and then parse as a proto of unknown fields: nodes must have ops.
    nodes = graph_def.node
    return len(nodes) > 0 and all(node.op and node.name for node in nodes)


def _operation_name(name: str) -> str:
    return name.removeprefix("^").split(":")[0]


def _from_meta_graph(
    meta: Any, name: str = "the MetaGraphDef", signature: str | None = None
) -> GraphSource:
    """A MetaGraphDef's graph, collections, stripped op list and signature, if it has any."""
    collections = {
        key: _collection_names(meta.collection_def[key])
        for key in _COLLECTIONS
        if key in meta.collection_def
    }
    op_defs = {op_def.name: op_def for op_def in meta.meta_info_def.stripped_op_list.op}
    source = GraphSource(meta.graph_def, collections, op_defs=op_defs, meta=meta)
    _choose_signature(source, meta, name, signature)
    return source


def _collection_names(collection: Any) -> list[str]:
    """Names in a collection kept as node names or as serialised VariableDefs."""
    definitions = [_parsed(variable_pb2.VariableDef(), d) for d in collection.bytes_list.value]
    names = [d.variable_name for d in definitions if d is not None and d.variable_name]
    return [_operation_name(name) for name in (*collection.node_list.value, *names)]


def _from_saved_model(
    saved: Any, name: str, tags: Sequence[str] | None, signature: str | None
) -> GraphSource:
    """Chooses a MetaGraph by its tags and a signature by its name."""
    meta = _tagged(saved, name, tags)
    source = _from_meta_graph(meta, name, signature)
    source.inference_only = True
    return source


def _choose_signature(source: GraphSource, meta: Any, name: str, signature: str | None) -> None:
    """Notes the outputs and inputs of the signature with that name, or of the usual one."""
    signatures = {
        key: [info.name for _, info in sorted(value.outputs.items()) if info.name]
        for key, value in meta.signature_def.items()
        if not key.startswith("__saved_model")
    }
    if signature is not None and signature not in signatures:
        known = ", ".join(sorted(signatures)) or "none"
        raise UserError(f"{name} has no signature {signature!r}; it has: {known}")
    usual = next(iter(signatures), "") if len(signatures) == 1 else "serving_default"
    chosen = usual if signature is None else signature
    source.outputs = signatures.get(chosen, [])
    if chosen in meta.signature_def:
        inputs = meta.signature_def[chosen].inputs
        source.inputs = {key: info.name for key, info in sorted(inputs.items()) if info.name}


def _tagged(saved: Any, name: str, tags: Sequence[str] | None) -> Any:
    """The MetaGraph with exactly these tags; without tags, the only or the serving one."""
    by_tags = {frozenset(meta.meta_info_def.tags): meta for meta in saved.meta_graphs}
    if not by_tags:
        raise UserError(f"{name} holds no graph")
    if tags is None and len(by_tags) == 1:
        return next(iter(by_tags.values()))
    found = by_tags.get(frozenset(["serve"] if tags is None else tags))
    if found is not None:
        return found
    listed = "; ".join(sorted(",".join(sorted(key)) or "(no tags)" for key in by_tags))
    if tags is None:
        raise UserError(f"{name} holds several graphs; choose one by its tags: {listed}")
    raise UserError(f"{name} has no graph tagged {','.join(tags)}; it has: {listed}")
