"""Finds the checkpoint that a path stands for."""

import os
import re
from typing import Any, Final

from google.protobuf import text_format
from tensorflow.python.training.checkpoint_state_pb2 import CheckpointState

from alexnet_tf1 import files
from alexnet_tf1.errors import UserError

MAX_STATE_BYTES: Final = 1 << 20  # a checkpoint's line has some 60
_OF_A_STEP = re.compile(
    r"(?P<stem>.*?)-(?P<step>[0-9]{1,18})(?P<again>-recalibrated(?:-(?P<number>[0-9]{1,9}))?)?"
)
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
    """The newest checkpoint of a folder, by its state file, or by the steps in the names."""
    places = (folder, os.path.join(folder, "checkpoints"))
    newest = ""
    for place in places:
        newest = newest or state_of(place).model_checkpoint_path
        # The file may hold the absolute path the folder had when it was written. A folder that
        # was moved or copied is meant to answer for itself: what lies in it comes first.
        inside = os.path.join(place, re.split(r"[/\\]", newest)[-1])
        for prefix in (inside, os.path.join(place, newest)):
            if newest and (os.path.isfile(f"{prefix}.index") or os.path.isfile(prefix)):
                return prefix
    saved_model = os.path.join(folder, "variables", "variables")
    if os.path.isfile(f"{saved_model}.index"):
        return saved_model
    for place in places:
        if found := by_names(place):
            return found[-1]
    state = os.path.join(folder, "checkpoint")
    where = state if os.path.isfile(state) else folder
    named = f", {newest} is not there" if newest else ""
    raise UserError(f"{where}: no checkpoint in it{named}; {_NO_CHECKPOINT}")


def state_of(folder: str | os.PathLike[str]) -> Any:
    """Reads the `checkpoint` file of a folder: a CheckpointState, empty where it cannot be used.

    A power cut, or a copy that was broken off, leaves it missing, empty, short or full of zeros.
    """
    try:
        content = files.read_bytes(os.path.join(folder, "checkpoint"), MAX_STATE_BYTES, "")
        return text_format.Parse(content.decode(), CheckpointState())
    except (UserError, text_format.ParseError, ValueError, RecursionError):
        return CheckpointState()


def by_names(folder: str | os.PathLike[str]) -> list[str]:
    """Lists the checkpoints of a folder by the steps in their names, the newest last.

    Of one step, a recalibrated one is newer. The files are not opened.

    Raises:
      UserError: if they are several and not all of one name and different steps.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    found = [name.removesuffix(".index") for name in names if name.endswith(".index")]
    matches = [match for name in found if (match := _OF_A_STEP.fullmatch(name))]
    if len(found) > 1 and (len(matches) < len(found) or len({m["stem"] for m in matches}) > 1):
        what = f"{len(found)} checkpoints and no `checkpoint` file that names one of them"
        raise UserError(f"{folder}: {what}; {_NO_CHECKPOINT}")
    if len(found) > 1:
        found = [m[0] for m in sorted(matches, key=_age)]
    return [os.path.join(folder, name) for name in found]


def _age(match: re.Match[str]) -> tuple[int, bool, int]:
    return int(match["step"]), bool(match["again"]), int(match["number"] or 1)
