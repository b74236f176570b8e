"""Saves checkpoints so that neither a kill nor a power cut loses the ones before."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow.python.training.checkpoint_state_pb2 import CheckpointState

from alexnet_tf1 import files
from alexnet_tf1.runs import recovery


def save(session: Any, saver: Any, prefix: str, older: Sequence[str], keep: int) -> list[str]:
    """Saves a session's variables as the newest checkpoint of a folder, and removes old ones.

    By itself Saver names the new checkpoint in the `checkpoint` file, and removes the oldest,
    while the new one may still be in the memory of the system only. Here it is flushed first.

    Args:
      session: with the variables.
      saver: a tf.train.Saver of them.
      prefix: of the new checkpoint.
      older: prefixes of the others in the folder, the oldest first.
      keep: how many may stay, the new one included.

    Returns:
      The prefixes of those that are there now, the oldest first.

    Raises:
      OSError, UserError, tf.errors.OpError: if it cannot be written; the others stay then.
    """
    folder, name = Path(prefix).parent, Path(prefix).name
    saver.save(session, prefix, write_state=False)
    for path in folder.glob(f"{name}.*"):
        files.flush(path)
    files.flush(folder)
    others = [other for other in older if other != prefix]
    removed = max(len(others) + 1 - keep, 0)
    kept = [*others[removed:], prefix]
    names = [Path(other).name for other in kept]
    state = CheckpointState(model_checkpoint_path=name, all_model_checkpoint_paths=names)
    files.write_bytes(folder / "checkpoint", text_format.MessageToString(state).encode())
    for other in others[:removed]:
        recovery.remove(other)
    return kept
