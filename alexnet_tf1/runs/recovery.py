"""Finds the newest intact checkpoint of a run, and removes what a kill left of others.

tf.train.Saver writes `model.ckpt-<step>.data-00000-of-00001.tempstate<number>` and renames it,
then does the same with `.index`, then writes `.meta`. A kill therefore leaves temporary files, or
data without an index. To remove an old checkpoint, `.meta`, `.index` and the data are removed in
this order, which leaves no more than that. Saver flushes nothing to the disk, `saving.save` does so
afterwards: a power cut in between may leave a file of any length, full of zeros.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from alexnet_tf1.checkpoint.sstable import DamagedError
from alexnet_tf1.errors import UserError

_NAME = r"model\.ckpt-(0|[1-9][0-9]{0,17})"
_DATA = r"data-[0-9]{5}-of-[0-9]{5}"
_ANY = rf"{_NAME}(?:-recalibrated(?:-[0-9]{{1,9}})?)?"
_OF_TRAINING = re.compile(rf"{_NAME}\.(index|{_DATA})")
_PART = re.compile(rf"({_ANY})\.(index|meta|{_DATA})")
_TEMPORARY = re.compile(
    rf"{_ANY}\.(?:index|{_DATA})\.tempstate[0-9]+|(?:{_ANY}\.meta|checkpoint)\.tmp[0-9a-f]{{32}}"
)
_SHARDS = re.compile(rf"{_ANY}_temp")  # of a Saver with sharded=True


def problem(prefix: str) -> str | None:
    """Finds the first fault of a checkpoint that tf.train.Saver wrote (V2).

    Every byte that a restore reads is read and compared with its checksum. `.meta` is not read,
    as no restore needs it. Imports TensorFlow.

    Returns:
      None if it is whole; else one short phrase, e.g. "model.ckpt-20.index is missing".

    Raises:
      UserError: if TensorFlow cannot read from such a path, whatever is there.
    """
    from alexnet_tf1.checkpoint import reader

    try:
        reader.verify(prefix)
    except DamagedError as error:
        return str(error)
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"{Path(error.filename or prefix).name} cannot be read: {error.strerror}"
    return None


def newest_sound(folder: Path, announce: Callable[[str], None]) -> str | None:
    """Finds the newest whole checkpoint of training, by the steps in the names.

    The `checkpoint` file is not read: it may be missing, old or damaged itself. Recalibrated
    checkpoints are left out, as training does not go on from them. Call it before `sweep`, which
    removes what is announced here.

    Args:
      folder: a run's `checkpoints/`.
      announce: takes a line for each newer checkpoint that is damaged or was cut short.

    Returns:
      The prefix that Saver.restore takes; None if no save was ever finished.

    Raises:
      UserError: if there are checkpoints and none is whole, or the folder cannot be read.
    """
    parts: dict[int, set[str]] = defaultdict(set)
    for name in _names(folder):
        if match := _OF_TRAINING.fullmatch(name):
            parts[int(match[1])].add(match[2])
    passed_over: dict[str, str] = {}
    for step in sorted(parts, reverse=True):
        name = f"model.ckpt-{step}"
        wrong = problem(str(folder / name))
        if wrong is None:
            for other, reason in passed_over.items():
                announce(f"{folder / other} is damaged ({reason}); {name} is used instead")
            return str(folder / name)
        passed_over[name] = wrong
    finished = [step for step in parts if "index" in parts[step]]
    if finished:
        newest = f"model.ckpt-{max(finished)}"
        raise UserError(
            f"{folder} holds no whole checkpoint (the newest, {newest}: {passed_over[newest]}); "
            "restore one from a copy or train a new run"
        )
    for name, reason in passed_over.items():
        announce(f"{folder / name} was never finished ({reason}); there is none before it")
    return None


def sweep(folder: Path) -> list[str]:
    """Removes what a kill in the middle of a save leaves behind, and no other file.

    These are Saver's temporary files, data or `.meta` without an index, and an index without any
    data. A damaged checkpoint stays. The caller holds the run's lock, so that nobody saves to the
    folder meanwhile.

    Returns:
      The names of what was removed, in order.

    Raises:
      UserError: if something cannot be removed.
    """
    doomed = []
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    for name in _names(folder):
        path = folder / name
        if path.is_dir():
            if _SHARDS.fullmatch(name) and not path.is_symlink():
                doomed.append(name)
        elif _TEMPORARY.fullmatch(name):
            doomed.append(name)
        elif match := _PART.fullmatch(name):
            parts[match[1]][match[3]] = name
    for part in parts.values():
        if "index" not in part or not any(kind.startswith("data") for kind in part):
            doomed += part.values()
    for name in sorted(doomed):
        _remove(folder / name)
    return sorted(doomed)


def remove(prefix: str) -> None:
    """Removes a checkpoint: .meta, .index, then the data, so that no index is without its data.

    Raises:
      UserError: if something cannot be removed.
    """
    folder, name = Path(prefix).parent, Path(prefix).name
    for other in reversed(_names(folder)):
        if (match := _PART.fullmatch(other)) and match[1] == name:
            _remove(folder / other)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}); name a run folder") from None


def _remove(path: Path) -> None:
    try:
        if path.is_dir():
            for part in path.glob("part*"):
                part.unlink()
            path.rmdir()
        else:
            path.unlink()
    except OSError as error:
        raise UserError(f"{path} cannot be removed ({error.strerror}); remove it") from None
