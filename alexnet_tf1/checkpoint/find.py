"""Finds the checkpoint that a path stands for."""

import os
import re
from pathlib import Path

from google.protobuf import text_format
from tensorflow.python.training.checkpoint_state_pb2 import CheckpointState

from alexnet_tf1.errors import UserError

_PART = re.compile(r"\.(?:index|meta|data-\d{5}-of-\d{5})$")
_NO_CHECKPOINT = "give a checkpoint's prefix, its .index file or its folder"


def resolve(path: str | os.PathLike[str]) -> str:
    """Finds the prefix of the checkpoint that `path` stands for.

    Args:
      path: a prefix; a checkpoint's .index, .meta or .data-00000-of-00001 file; a `checkpoint`
        state file; a folder with a state file (its newest checkpoint), a SavedModel, or a run
        folder with `checkpoints/`.

    Returns:
      The prefix, as `tf.train.Saver.restore` takes it; its files are there.

    Raises:
      UserError: if it stands for no checkpoint.
    """
    given = os.fspath(path)
    if os.path.isdir(given) and not os.path.isfile(f"{given}.index"):
        return _newest_in(given)
    if os.path.basename(given) in ("checkpoint", "saved_model.pb") and os.path.isfile(given):
        return _newest_in(os.path.dirname(given) or ".")
    prefix = _PART.sub("", given)
    if os.path.isfile(f"{prefix}.index") or (prefix == given and os.path.isfile(given)):
        return prefix  # V2; or V1, a single file
    if os.path.exists(given):
        raise UserError(f"{given}: {prefix}.index is missing beside it; {_NO_CHECKPOINT}")
    raise UserError(f"{given}: no such checkpoint; {_NO_CHECKPOINT}")


def _newest_in(folder: str) -> str:
    """The newest checkpoint of a folder, by its state file or as the only one in it."""
    for place in (folder, os.path.join(folder, "checkpoints")):
        if os.path.isfile(os.path.join(place, "checkpoint")):
            return _by_state_file(place)
    saved_model = os.path.join(folder, "variables", "variables")
    if os.path.isfile(f"{saved_model}.index"):
        return saved_model
    try:
        found = sorted(name for name in os.listdir(folder) if name.endswith(".index"))
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    if len(found) == 1:
        return os.path.join(folder, found[0].removesuffix(".index"))
    what = f"{len(found)} checkpoints and no `checkpoint` file" if found else "no checkpoint in it"
    raise UserError(f"{folder}: {what}; {_NO_CHECKPOINT}")


def _by_state_file(folder: str) -> str:
    """The checkpoint that a folder's `checkpoint` file calls the newest.

    The file may hold the absolute path the folder had when it was written. A folder that was
    moved or copied is meant to answer for itself: what lies in it comes first.
    """
    state_file = os.path.join(folder, "checkpoint")
    try:
        text = Path(state_file).read_text(encoding="utf-8")
        newest = text_format.Parse(text, CheckpointState()).model_checkpoint_path
    except OSError as error:
        raise UserError(f"{state_file}: {error.strerror}") from None
    except (text_format.ParseError, UnicodeDecodeError):
        newest = ""
    if not newest:
        raise UserError(f"{state_file}: names no checkpoint; give a checkpoint's prefix")
    inside = os.path.join(folder, re.split(r"[/\\]", newest)[-1])
    for prefix in (inside, os.path.join(folder, newest)):
        if os.path.isfile(f"{prefix}.index") or os.path.isfile(prefix):
            return prefix
    raise UserError(
        f"{state_file}: its newest checkpoint {newest} is not there; give another one's prefix"
    )
