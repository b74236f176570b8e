"""Reads a graph, wherever it lies, into plain protocol buffers; nothing is imported or run."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import variable_pb2
from tensorflow.core.protobuf import saved_model_pb2

from alexnet_tf1.errors import UserError

TRAINABLE = "trainable_variables"
TRAIN_OP = "train_op"
UPDATE_OPS = "update_ops"
_COLLECTIONS = (TRAIN_OP, TRAINABLE, UPDATE_OPS)
MAX_BYTES = (1 << 31) - 1  # the most that a protocol buffer may have


@dataclass
class GraphSource:
    """A graph as protos, with what its collections and signatures say about it."""

    graph_def: Any  # the GraphDef with its function library
    # names of operations or variables, by collection name
    collections: dict[str, list[str]] = field(default_factory=dict)
    # tensor names of the chosen signature's outputs (SavedModel only)
    outputs: list[str] = field(default_factory=list)
    # OpDefs that the file carries for its own operations, by name
    op_defs: dict[str, Any] = field(default_factory=dict)
    inference_only: bool = False  # True for a SavedModel, which may lawfully lack a training op


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
        return GraphSource(graph.as_graph_def(add_shapes=True), collections)
    raise UserError(
        f"graph is a {type(graph).__name__}; give a tf.Graph, GraphDef, MetaGraphDef or SavedModel"
    )


def from_file(
    path: str | os.PathLike[str], tags: Sequence[str] | None = None, signature: str | None = None
) -> GraphSource:
    """Reads a MetaGraph file, a SavedModel folder or its saved_model.pb.

    Args:
      path: the file or folder.
      tags: tags of the wanted MetaGraph in a SavedModel; None: the only or the serving one.
      signature: name of the signature whose outputs are the logits; None: the usual one.

    Raises:
      UserError: if there is no graph to be read there.
    """
    where = Path(path)
    if os.path.isdir(where):  # Path.is_dir raises where a name is too long
        inside = where / "saved_model.pb"
        if not inside.is_file():
            if (where / "saved_model.pbtxt").is_file():
                raise UserError(f"{where} holds saved_model.pbtxt; only saved_model.pb is read")
            raise UserError(
                f"{where} holds no saved_model.pb; name a .meta file or a SavedModel folder"
            )
        where = inside
    data = _bytes_of(where)
    if where.name.endswith(".pb"):
        wanted, saved = "SavedModel", _parsed(saved_model_pb2.SavedModel(), data)
        if saved is not None and any(_holds_nodes(m.graph_def) for m in saved.meta_graphs):
            return _from_saved_model(saved, str(path), tags, signature)
    else:
        wanted, meta = "MetaGraph", _parsed(tf.MetaGraphDef(), data)
        if meta is not None and _holds_nodes(meta.graph_def):
            return _from_meta_graph(meta)
    raise UserError(
        f"{where} is not a {wanted} with a graph in it; name a .meta file written by "
        "tf.train.Saver or export_meta_graph, or a SavedModel folder"
    )


def _bytes_of(where: Path) -> bytes:
    """The file's content; a UserError that says why if there is none."""
    if not os.path.exists(where):
        raise UserError(f"{where} does not exist; name a .meta file or a SavedModel folder")
    if not os.path.isfile(where):  # a pipe would wait, a device never end
        raise UserError(f"{where} is not a file; name a .meta file or a SavedModel folder")
    try:
        if (size := where.stat().st_size) > MAX_BYTES:
            raise UserError(f"{where} has {size:,} bytes; no graph has more than {MAX_BYTES:,}")
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


def _holds_nodes(graph_def: Any) -> bool:
    # Random bytes now and then parse as a proto of unknown fields: nodes must have ops.
    nodes = graph_def.node
    return len(nodes) > 0 and all(node.op and node.name for node in nodes)


def _operation_name(name: str) -> str:
    return name.removeprefix("^").split(":")[0]


def _from_meta_graph(meta: Any) -> GraphSource:
    """A MetaGraphDef's graph, collections and stripped op list."""
    collections = {
        key: _collection_names(meta.collection_def[key])
        for key in _COLLECTIONS
        if key in meta.collection_def
    }
    op_defs = {op_def.name: op_def for op_def in meta.meta_info_def.stripped_op_list.op}
    return GraphSource(meta.graph_def, collections, op_defs=op_defs)


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
    source = _from_meta_graph(meta)
    source.inference_only = True
    signatures = {
        key: [info.name for _, info in sorted(value.outputs.items()) if info.name]
        for key, value in meta.signature_def.items()
        if not key.startswith("__saved_model")
    }
    if signature is not None and signature not in signatures:
        known = ", ".join(sorted(signatures)) or "none"
        raise UserError(f"{name} has no signature {signature!r}; it has: {known}")
    usual = next(iter(signatures), "") if len(signatures) == 1 else "serving_default"
    source.outputs = signatures.get(usual if signature is None else signature, [])
    return source


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
