"""Finds where in the user's own code an operation of a live graph was built."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]")  # TensorFlow, and layers on top of it
_OURS = str(Path(__file__).parents[2]) + os.sep


def place_of(graph: Any, name: str) -> str | None:
    """Finds the innermost line outside of libraries that took part in building an operation.

    Args:
      graph: the tf.Graph.
      name: the operation's, or that of one inside a function that the graph calls.

    Returns:
      "model.py:12", the path relative to the current folder where it lies below; None where only
      libraries took part, or the operation was imported from a file.
    """
    while True:
        try:
            frames = graph.get_operation_by_name(name).traceback
            break
        except (KeyError, ValueError):
            name = name.rpartition("/")[0]
            if not name:
                return None
    files = [(frame.filename, frame.lineno) for frame in frames or ()]
    for file, line in reversed(files):
        if not (_INSTALLED.search(file) or file.startswith(_OURS)):
            near = os.path.relpath(file)
            return f"{file if near.startswith('..') else near}:{line}"
    return None
