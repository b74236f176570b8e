"""A run folder: config.json, metrics.jsonl, result.json and where its checkpoints are."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alexnet_tf1.config import TrainConfig
from alexnet_tf1.errors import UserError

CONFIG, METRICS, RESULT = "config.json", "metrics.jsonl", "result.json"
MAX_CONFIG_BYTES = 1 << 20


class Run:
    """One training run on disk.

    Attributes:
      folder: of the run.
      config: its settings.
      made: the folders above it that had to be made for it, the lowest first.
    """

    def __init__(self, folder: Path, config: TrainConfig, made: Sequence[Path] = ()) -> None:
        self.folder = folder
        self.config = config
        self.made = made

    @property
    def checkpoints(self) -> Path:
        """The folder that tf.train.Saver writes to."""
        return self.folder / "checkpoints"

    def log(self, **record: Any) -> None:
        """Appends one object to metrics.jsonl."""
        with open(self.folder / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self, *, cut_short: bool = False) -> list[dict[str, Any]]:
        """Reads metrics.jsonl back.

        Args:
          cut_short: whether its last line may be cut short, as a kill leaves it: it is left out.

        Returns:
          One dict a line, oldest first.

        Raises:
          UserError: if a line is not a JSON object.
        """
        path = self.folder / METRICS
        if not os.path.isfile(path):
            return []
        records = []
        lines = _read_text(path).splitlines(keepends=True)
        if cut_short and lines and not lines[-1].endswith("\n"):
            del lines[-1]
        for number, line in enumerate(lines, 1):
            record = _parse(line, f"{path}, line {number}")
            if not isinstance(record, dict):
                raise UserError(f"{path}, line {number} is not a JSON object; delete the line")
            records.append(record)
        return records

    def result(self) -> dict[str, Any] | None:
        """What result.json holds; None where there is none.

        Raises:
          UserError: if it is damaged.
        """
        path = self.folder / RESULT
        if not os.path.isfile(path):
            return None
        result = read_json(path)
        if not isinstance(result, dict) or not isinstance(result.get("steps"), int):
            raise UserError(f"{path} is not a result; delete it")
        return result

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes result.json, whole or not at all."""
        write_json(self.folder / RESULT, result)

    def checkpoint(self, chosen: str | None = None) -> str:
        """Finds a checkpoint of this run.

        Args:
          chosen: a checkpoint's prefix or its name's end, e.g. 2500 or 2500-recalibrated;
            None for the newest.

        Returns:
          The prefix that Saver.restore takes.

        Raises:
          UserError: if there is none, or not this one.
        """
        import tensorflow.compat.v1 as tf

        if chosen is None:
            newest = tf.train.latest_checkpoint(str(self.checkpoints))
            if newest is None:
                raise UserError(f"{self.checkpoints} holds no checkpoint; train the run first")
            return str(newest)
        names = [chosen.removesuffix(".index"), str(self.checkpoints / f"model.ckpt-{chosen}")]
        for name in names:
            if os.path.isfile(f"{name}.index"):
                return name
        there = sorted(
            (path.stem.removeprefix("model.ckpt-") for path in self.checkpoints.glob("*.index")),
            key=lambda name: (len(name.partition("-")[0]), name),
        )
        raise UserError(
            f"--checkpoint {chosen} is not there; {self.folder} has {', '.join(there) or 'none'}"
        )


def create(config: TrainConfig) -> Run:
    """Makes the folder of a new run, empty but for its place for checkpoints.

    Args:
      config: its settings; `run_dir` None for a new folder under runs/.

    Returns:
      The run.

    Raises:
      UserError: if the folder cannot be made, or holds anything.
    """
    folder = Path(config.run_dir) if config.run_dir else _new_name()
    run = Run(folder, config, [place for place in folder.parents if not os.path.lexists(place)])
    is_new = not os.path.lexists(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"--run-dir {folder} is not empty; name a new folder, or add --resume")
        (folder / "checkpoints").mkdir()
    except (OSError, ValueError) as error:
        _remove_empty([*([folder] if is_new else []), *run.made])
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--run-dir {folder} cannot be written ({reason}); name another folder"
        ) from None
    return run


def discard(run: Run) -> None:
    """Removes the folder of a run that did not start, if nothing was written to it."""
    _remove_empty([run.checkpoints, run.folder, *run.made])


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError, ValueError):
            folder.rmdir()


def open_run(folder: str) -> Run:
    """Opens a run that `train` wrote.

    Args:
      folder: its run folder.

    Returns:
      The run with its settings.

    Raises:
      UserError: if it is not a run folder, or its config.json is damaged.
    """
    path = Path(folder) / CONFIG
    if not os.path.isfile(path):  # Path.is_file raises where a name is too long
        raise UserError(f"{folder} is not a run folder (no {CONFIG}); name one that `train` wrote")
    values = _parse(_read_text(path, MAX_CONFIG_BYTES), str(path))
    try:
        return Run(Path(folder), TrainConfig.from_json(values, str(path)))
    except (RecursionError, OverflowError) as error:
        raise UserError(f"{path} holds no settings ({error}); restore it from a copy") from None


def save_config(run: Run) -> None:
    """Writes config.json."""
    write_json(run.folder / CONFIG, dataclasses.asdict(run.config))


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      UserError: if it cannot be read or is not JSON.
    """
    return _parse(_read_text(path), str(path))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all: to a temporary file, then renamed.

    Args:
      path: of the file.
      value: what json.dumps takes; NaN and infinities are refused, as JSON has none.

    Raises:
      UserError: if the file cannot be written.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, as `write_json` does."""
    try:
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(handle, "wb") as file:
                file.write(content)
            os.chmod(aside, 0o644)  # mkstemp makes it private
            os.replace(aside, path)
        except BaseException:
            os.unlink(aside)
            raise
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); free the place") from None


def check_writable(folder: Path, *names: str) -> None:
    """Finds out before minutes of measuring whether files of these names can be written.

    Raises:
      UserError: if not.
    """
    try:
        for name in names:
            if os.path.isdir(folder / name):
                raise UserError(
                    f"{folder / name} is a folder; a file is to be written there: move it away"
                )
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to ({error.strerror}); make it writable"
        ) from None


def _new_name() -> Path:
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path("runs") / stamp
    number = 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{stamp}_{number}"
    return folder


def _read_text(path: Path, most: int | None = None) -> str:
    try:
        if most is not None and (size := path.stat().st_size) > most:
            raise UserError(f"{path} has {size:,} bytes, far too many; restore it from a copy")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path} cannot be read ({reason}); restore it from a copy") from None


def _parse(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} is not JSON ({error}); restore it from a copy") from None
