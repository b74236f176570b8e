"""Opens anybody's model: its graph, and the values of its variables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alexnet_tf1.batchnorm.graph import load
from alexnet_tf1.batchnorm.graph.flatten import FlatGraph
from alexnet_tf1.batchnorm.graph.load import GraphSource
from alexnet_tf1.batchnorm.graph.locate import locate
from alexnet_tf1.batchnorm.layers.provenance import Provenance
from alexnet_tf1.batchnorm.layers.savers import saves
from alexnet_tf1.checkpoint.reader import Checkpoint
from alexnet_tf1.errors import UserError

Array = npt.NDArray[Any]
VARIABLES = frozenset({"VarHandleOp", "Variable", "VariableV2", "AutoReloadVariable"})


@dataclass(frozen=True)
class Model:
    """A graph and what its variables hold; both as they were found, and neither is changed.

    Attributes:
      name: as the user calls it.
      source: the graph.
      read: gives the values of those of the variables named that have one; see `variable_key`.
      keys: each variable's name in the checkpoint, by `variable_key`.
      checkpoint: where the values come from; None for a live session.
      graph_file: the file that holds the graph; None for a live session.
    """

    name: str
    source: GraphSource
    read: Callable[[Iterable[str]], dict[str, Array]]
    keys: Mapping[str, str]
    checkpoint: Checkpoint | None = None
    graph_file: Path | None = None


def variable_key(node: Any) -> str:
    """The name by which nodes of one variable share it, from a variable's NodeDef."""
    shared = node.attr["shared_name"].s.decode("utf-8", "replace")
    return shared if node.op == "VarHandleOp" and shared else str(node.name)


def open_model(
    path: str | os.PathLike[str], tags: Sequence[str] | None = None, signature: str | None = None
) -> Model:
    """Opens a checkpoint with its .meta file, or a SavedModel with variables.

    Args:
      path: a checkpoint's prefix or folder, its .meta file, or a SavedModel's folder.
      tags: tags of the MetaGraph in a SavedModel that holds several.
      signature: the signature whose inputs and outputs are meant.

    Raises:
      UserError: if there is no graph, or no checkpoint with it.
    """
    source = load.from_file(path, tags, signature)
    located = locate(path)
    if located.checkpoint is None:
        raise UserError(
            f"{path} holds a graph and no variables; give a checkpoint's prefix with its .meta "
            "file beside it, or a SavedModel's folder"
        )
    checkpoint = Checkpoint(located.checkpoint)
    provenance = Provenance(FlatGraph(source.graph_def, source.op_defs))
    keys: dict[str, str] = {}
    parts: dict[str, str] = {}
    for saved in saves(provenance):
        key = variable_key(provenance.nodes[saved.variable].definition)
        if key not in keys and saved.key in checkpoint.variables:
            keys[key], parts[key] = saved.key, saved.part

    def read(names: Iterable[str]) -> dict[str, Array]:
        found = {}
        for name in names:
            key = keys.get(name, name)
            if key in checkpoint.variables:
                found[name] = _part(checkpoint.read(key), parts.get(name, ""))
        return found

    return Model(str(path), source, read, keys, checkpoint, located.graph)


def _part(value: Array, part: str) -> Array:
    """Cuts out a variable's part, given as Savers do: "10 3 0,5:-" is rows 0 to 4 of [10, 3]."""
    places = part.split(" ")[-1] if part else ""
    cuts = []
    for cut in places.split(":") if places else ():
        start, comma, size = cut.partition(",")
        cuts.append(slice(int(start), int(start) + int(size)) if comma else slice(None))
    return value[tuple(cuts)] if cuts else value


def live_model(session: Any) -> Model:
    """Takes the graph and the variables of a live session; they are read, and not written.

    Args:
      session: a tf.Session whose variables are initialised.
    """
    graph = session.graph
    reads: dict[str, str] = {}
    for operation in graph.get_operations():
        if operation.type in ("Variable", "VariableV2"):
            reads[operation.name] = f"{operation.name}:0"
        elif operation.type == "ReadVariableOp" and operation.inputs[0].op.type == "VarHandleOp":
            key = variable_key(operation.inputs[0].op.node_def)
            if not operation.control_inputs and graph.is_fetchable(operation.outputs[0]):
                reads.setdefault(key, operation.outputs[0].name)

    def read(names: Iterable[str]) -> dict[str, Array]:
        wanted = {name: reads[name] for name in names if name in reads}
        found: dict[str, Array] = {k: np.asarray(v) for k, v in session.run(wanted).items()}
        return found

    return Model("the session's graph", load.from_object(graph), read, {})
