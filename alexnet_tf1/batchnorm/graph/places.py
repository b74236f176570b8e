"""Finds where in the user's own code an operation was built."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_debug_info_pb2

from alexnet_tf1.batchnorm.graph.node import Node

_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]")  # TensorFlow, and layers on top of it
_OURS = str(Path(__file__).parents[2]) + os.sep
_MAX_BYTES = 1 << 28  # of debug information; that of a large model has some megabytes


def place_of(graph: Any, node: Node) -> str | None:
    """Finds the innermost line outside of libraries that took part in building an operation.

    Args:
      graph: the live tf.Graph.
      node: the operation, of the graph or of a function that it calls.

    Returns:
      "model.py:12", the path relative to the current folder where it lies below; None where only
      libraries took part, or the operation was imported from a file.
    """
    name = node.name
    while True:
        try:
            frames = graph.get_operation_by_name(name).traceback
            break
        except (KeyError, ValueError):
            name = name.rpartition("/")[0]
            if not name:
                return None
    return _innermost((frame.filename, frame.lineno) for frame in frames or ())


class DebugInfo:
    """The debug information that a SavedModel may have, read when the first place is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def place_of(self, node: Node) -> str | None:
        """Finds the same for an operation of the SavedModel; None where the file does not tell."""
        key, info = f"{node.definition.name}@{node.function}", self._info
        if key in info.traces:
            trace = info.traces[key]
        elif key in info.name_to_trace_id:
            trace = info.traces_by_id[info.name_to_trace_id[key]]
        else:
            return None
        numbered = (info.frames_by_id[k] for k in trace.frame_id if k in info.frames_by_id)
        known = range(len(info.files))
        frames = [*trace.file_line_cols, *numbered]
        return _innermost(
            (info.files[f.file_index], f.line) for f in frames if f.file_index in known
        )

    @functools.cached_property
    def _info(self) -> Any:
        """The file's content; nothing where it is missing, damaged or far too large."""
        info = graph_debug_info_pb2.GraphDebugInfo()
        try:
            if self._path.is_file() and self._path.stat().st_size <= _MAX_BYTES:
                info.ParseFromString(self._path.read_bytes())
        except (OSError, DecodeError, ValueError):
            return graph_debug_info_pb2.GraphDebugInfo()
        return info


def _innermost(files: Iterable[tuple[str, int]]) -> str | None:
    """The last file and line outside of libraries, of those from the program's start inwards."""
    for file, line in reversed(list(files)):
        if file and not (_INSTALLED.search(file) or file.startswith(_OURS)):
            near = os.path.relpath(file)
            return f"{file if near.startswith('..') else near}:{line}"
    return None
