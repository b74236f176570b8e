"""Makes and opens run folders: config.json, metrics.jsonl, result.json and checkpoints/."""

import dataclasses
import datetime
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alexnet_tf1 import files
from alexnet_tf1.checkpoint.pattern import refuse_pattern
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.errors import UserError
from alexnet_tf1.runs import metrics

CONFIG, METRICS, RESULT, DATA = "config.json", "metrics.jsonl", "result.json", "data.json"
RUNS = Path("runs")  # where runs are that were given no folder


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run on disk.

    `made` are the folders that had to be made for it, the lowest first.
    """

    folder: Path
    config: TrainConfig
    made: Sequence[Path] = ()

    @property
    def checkpoints(self) -> Path:
        """The folder that tf.train.Saver writes to."""
        return self.folder / "checkpoints"

    def log(self, **record: Any) -> None:
        """Appends one object to metrics.jsonl."""
        with open(self.folder / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self, *, cut_short: bool = False) -> list[dict[str, Any]]:
        """Reads metrics.jsonl back: one dict a line, oldest first.

        Args:
          cut_short: whether its last line may be cut short, as a kill leaves it: it is left out.

        Raises:
          UserError: if it cannot be read, or a line is not a record.
        """
        return metrics.read(self.folder / METRICS, cut_short=cut_short)

    def result(self) -> dict[str, Any] | None:
        """Reads result.json; None where there is none.

        Raises:
          UserError: if it is damaged.
        """
        result: dict[str, Any] | None = files.read_json(self.folder / RESULT)
        steps = result.get("steps") if isinstance(result, dict) else None
        if result is not None and not isinstance(steps, int):
            raise UserError(f"{self.folder / RESULT} is not a result; delete it")
        return result

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes result.json, whole or not at all."""
        files.write_json(self.folder / RESULT, result)

    def checkpoint(self, chosen: str | None = None) -> str:
        """Finds a checkpoint of this run; returns the prefix that Saver.restore takes.

        Args:
          chosen: a checkpoint's prefix or its name's end, e.g. 2500 or 2500-recalibrated;
            None for the newest.

        Raises:
          UserError: if there is none, or not this one.
        """
        import tensorflow.compat.v1 as tf

        if chosen is None:
            newest = tf.train.latest_checkpoint(str(self.checkpoints))
            if newest is None:
                raise UserError(f"{self.checkpoints} holds no checkpoint; train the run first")
            return str(newest)
        for name in (chosen.removesuffix(".index"), str(self.checkpoints / f"model.ckpt-{chosen}")):
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

    Raises:
      UserError: if the folder cannot be made, or holds anything.
    """
    folder = Path(config.run_dir) if config.run_dir else _new_name()
    refuse_pattern(str(folder))  # nothing that is saved there could be restored
    made: list[Path] = []
    try:
        made = files.make_folders(folder)
        if any(folder.iterdir()):
            raise UserError(f"--run-dir {folder} is not empty; name a new folder, or add --resume")
        (folder / "checkpoints").mkdir()
    except (OSError, ValueError) as error:
        files.remove_empty(made)
        raise UserError(
            f"--run-dir {folder} cannot be written ({files.reason(error)}); name another folder"
        ) from None
    return Run(folder, config, made)


def discard(run: Run) -> None:
    """Removes the folder of a run that did not start, if nothing was written to it."""
    files.remove_empty([run.checkpoints, *run.made])


def open_run(folder: str) -> Run:
    """Opens a run that `train` wrote, with its settings.

    Raises:
      UserError: if it is not a run folder, or its config.json is damaged.
    """
    path = Path(folder) / CONFIG
    if not os.path.isfile(path):
        raise UserError(f"{folder} is not a run folder (no {CONFIG}); name one that `train` wrote")
    values = files.read_json(path)
    try:
        return Run(Path(folder), TrainConfig.from_json(values, str(path)))
    except (RecursionError, OverflowError) as error:
        raise UserError(f"{path} holds no settings ({error}); restore it from a copy") from None


def newest() -> str:
    """Finds the run under runs/ that was started, or went on, last.

    Raises:
      UserError: if there is none.
    """
    started = [
        (path.stat().st_mtime_ns, str(path.parent))
        for path in RUNS.glob(f"*/{CONFIG}")
        if path.is_file()
    ]
    if not started:
        raise UserError(f"no RUN is given, and {RUNS}/ holds none; name a run folder")
    return max(started)[1]


def save_config(run: Run) -> None:
    """Writes config.json."""
    files.write_json(run.folder / CONFIG, dataclasses.asdict(run.config))


def _new_name() -> Path:
    stamp = RUNS / datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    others = (stamp.with_name(f"{stamp.name}_{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([stamp], others) if not folder.exists())
