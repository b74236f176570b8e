"""A run folder: config.json, metrics.jsonl, result.json and where its checkpoints are."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from alexnet_tf1.config import TrainConfig
from alexnet_tf1.errors import UserError

CONFIG, METRICS, RESULT = "config.json", "metrics.jsonl", "result.json"


class Run:
    """One training run on disk."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self.folder = folder
        self.config = config

    @property
    def checkpoints(self) -> Path:
        """The folder that tf.train.Saver writes to."""
        return self.folder / "checkpoints"

    def log(self, **record: Any) -> None:
        """Appends one object to metrics.jsonl."""
        with open(self.folder / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Reads metrics.jsonl back.

        Returns:
          One dict a line, oldest first.

        Raises:
          UserError: if a line is not a JSON object.
        """
        path = self.folder / METRICS
        if not path.exists():
            return []
        records = []
        for number, line in enumerate(_read_text(path).splitlines(), 1):
            record = _parse(line, f"{path}, line {number}")
            if not isinstance(record, dict):
                raise UserError(f"{path}, line {number} is not a JSON object; delete the line")
            records.append(record)
        return records

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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"--run-dir {folder} is not empty; name a new folder")
        (folder / "checkpoints").mkdir()
    except OSError as error:
        raise UserError(
            f"--run-dir {folder} cannot be written ({error.strerror}); name another folder"
        ) from None
    return Run(folder, config)


def discard(run: Run) -> None:
    """Removes the folder of a run that did not start, if nothing was written to it."""
    for folder in (run.checkpoints, run.folder):
        try:
            folder.rmdir()
        except OSError:
            return


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
    if not path.is_file():
        raise UserError(f"{folder} is not a run folder (no {CONFIG}); name one that `train` wrote")
    return Run(Path(folder), TrainConfig.from_json(_parse(_read_text(path), str(path)), str(path)))


def save_config(run: Run) -> None:
    """Writes config.json."""
    write_json(run.folder / CONFIG, dataclasses.asdict(run.config))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all: to a temporary file, then renamed.

    Args:
      path: of the file.
      value: what json.dumps takes; NaN and infinities are refused, as JSON has none.

    Raises:
      UserError: if the file cannot be written.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
        os.chmod(file.name, 0o644)  # NamedTemporaryFile makes it private
        os.replace(file.name, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); free the place") from None


def _new_name() -> Path:
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path("runs") / stamp
    number = 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{stamp}_{number}"
    return folder


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path} cannot be read ({reason}); restore it from a copy") from None


def _parse(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{source} is not JSON ({error}); restore it from a copy") from None
