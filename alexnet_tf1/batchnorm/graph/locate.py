"""Finds the file that holds a model's graph, and the checkpoint beside it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from alexnet_tf1.checkpoint import find
from alexnet_tf1.errors import UserError

FORMS = "a .meta file, a checkpoint's prefix or folder, a SavedModel, a frozen .pb or a graph.pbtxt"
_PART = re.compile(r"\.(?:index|meta|data-\d{5}-of-\d{5})$")
_GRAPHS = (".meta", ".pbtxt", ".pb")


class Located(NamedTuple):
    """A model's files."""

    graph: Path
    checkpoint: str | None  # the prefix of the checkpoint that belongs to the graph


def locate(path: str | os.PathLike[str]) -> Located:
    """Finds the graph that a path stands for.

    Args:
      path: a graph's file; a checkpoint's prefix or one of its files; a folder of checkpoints, of
        an Estimator, of a run, or a SavedModel.

    Returns:
      The files.

    Raises:
      UserError: if there is no graph; with what to name instead.
    """
    given = os.fspath(path)
    prefix = _PART.sub("", given)
    if _is_checkpoint(prefix) and not (prefix != given and given.endswith(".meta")):
        return _of_checkpoint(prefix)
    if os.path.isdir(given):  # Path.is_dir raises where a name is too long
        return _in_folder(given)
    if not os.path.exists(given):
        raise UserError(f"{given} does not exist; name {FORMS}")
    if os.path.basename(given) == "checkpoint":
        return _in_folder(os.path.dirname(given) or ".")
    folder = os.path.dirname(given) or "."
    if os.path.basename(given).startswith("saved_model.pb"):
        return Located(Path(given), _saved_model_variables(folder))
    if given.endswith(".meta"):
        return Located(Path(given), prefix if _is_checkpoint(prefix) else None)
    return Located(Path(given), None)


def _is_checkpoint(prefix: str) -> bool:
    """Tells whether it is a checkpoint's prefix; one of the first format is itself a file."""
    return os.path.isfile(f"{prefix}.index") or (
        os.path.isfile(prefix) and os.path.isfile(f"{prefix}.meta")
    )


def _of_checkpoint(prefix: str) -> Located:
    for graph in (f"{prefix}.meta", os.path.join(os.path.dirname(prefix), "graph.pbtxt")):
        if os.path.isfile(graph):
            return Located(Path(graph), prefix)
    raise UserError(
        f"{prefix}.meta is not there, and a checkpoint without it holds no graph; `alexnet-tf1 "
        "doctor` looks at the checkpoint alone"
    )


def _in_folder(folder: str) -> Located:
    """The graph of a SavedModel, of the newest checkpoint, or the only one in the folder."""
    for name in ("saved_model.pb", "saved_model.pbtxt"):
        if os.path.isfile(os.path.join(folder, name)):
            return Located(Path(folder, name), _saved_model_variables(folder))
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    graphs = [name for name in names if name.endswith(_GRAPHS)]
    if "checkpoint" in names or "checkpoints" in names or not graphs:
        try:
            return _of_checkpoint(find.resolve(folder))
        except UserError:
            if not graphs:
                raise
    if "graph.pbtxt" in graphs:
        graphs = ["graph.pbtxt"]
    if len(graphs) > 1:
        raise UserError(f"{folder} holds several graphs, name one: {', '.join(graphs[:6])}")
    return locate(os.path.join(folder, graphs[0]))


def _saved_model_variables(folder: str) -> str | None:
    prefix = os.path.join(folder, "variables", "variables")
    return prefix if os.path.isfile(f"{prefix}.index") else None
