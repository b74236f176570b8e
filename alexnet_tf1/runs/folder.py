"""Makes and opens run folders: config.json, metrics.jsonl, result.json and checkpoints/."""

import contextlib
import dataclasses
import datetime
import itertools
import json
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alexnet_tf1 import files
from alexnet_tf1.checkpoint.pattern import refuse_pattern
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.errors import UserError
from alexnet_tf1.runs import metrics, recovery

CONFIG, METRICS, RESULT, DATA = "config.json", "metrics.jsonl", "result.json", "data.json"
CHECKPOINTS, LOCK = "checkpoints", "lock"
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
        return self.folder / CHECKPOINTS

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
        if chosen is None:
            return self._newest_checkpoint()
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

    def _newest_checkpoint(self) -> str:
        """Finds the one that the `checkpoint` file names; where it names none, the newest whole.

        Where none is whole, it is the newest, so that its reader says what is wrong.
        """
        from alexnet_tf1.checkpoint import find  # imports TensorFlow

        if named := self._named_checkpoints():
            return named[-1]
        found = find.by_names(self.checkpoints)
        if not found:
            raise UserError(f"{self.checkpoints} holds no checkpoint; train the run first")
        whole = (prefix for prefix in reversed(found) if recovery.problem(prefix) is None)
        newest = next(whole, found[-1])
        warnings.warn(
            f"{self.checkpoints / 'checkpoint'} names no checkpoint that is there; "
            f"{Path(newest).name} is taken, the newest by its name",
            stacklevel=2,
        )
        return newest

    def all_checkpoints(self) -> list[str]:
        """Lists the prefixes of this run's checkpoints, the newest last.

        They are those that the `checkpoint` file names, or where it names none all that are there.

        Raises:
          UserError: if the folder cannot be read.
        """
        from alexnet_tf1.checkpoint import find

        return self._named_checkpoints() or find.by_names(self.checkpoints)

    def _named_checkpoints(self) -> list[str]:
        """Lists those that the `checkpoint` file names and that are in the folder, or nothing."""
        from alexnet_tf1.checkpoint import find

        state = find.state_of(self.checkpoints)
        newest = state.model_checkpoint_path
        names = [n for n in state.all_model_checkpoint_paths if n != newest] + [newest]
        inside = [str(self.checkpoints / re.split(r"[/\\]", name)[-1]) for name in names]
        there = [prefix for prefix in inside if os.path.isfile(f"{prefix}.index")]
        return there if inside[-1:] == there[-1:] else []


def create(config: TrainConfig) -> Run:
    """Makes the folder of a new run.

    Raises:
      UserError: if the folder cannot be made, or holds anything but what `begin` leaves when it is
        killed.
    """
    folder = Path(config.run_dir) if config.run_dir else RUNS
    refuse_pattern(str(folder))  # nothing that is saved there could be restored
    made: list[Path] = []
    try:
        made = files.make_folders(folder)
        if config.run_dir is None:
            folder = _new_folder()
            made.insert(0, folder)
        if any(not _is_of_beginning(path.name) for path in folder.iterdir()):
            raise UserError(f"--run-dir {folder} is not empty; name a new folder, or add --resume")
    except (OSError, ValueError) as error:
        files.remove_empty(made)
        raise UserError(
            f"--run-dir {folder} cannot be written ({files.reason(error)}); name another folder"
        ) from None
    return Run(folder, config, made)


def _new_folder() -> Path:
    """Makes a folder under runs/ that is named by the time; no other process makes the same."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in itertools.count(1):
        folder = RUNS / (stamp if number == 1 else f"{stamp}_{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError


def _is_of_beginning(name: str) -> bool:
    """Tells whether a kill in `begin` leaves a file of this name."""
    return name == LOCK or (name.startswith(f".{CONFIG}.") and name.endswith(files.UNFINISHED))


def begin(run: Run) -> None:
    """Writes config.json of a new run, before all that takes time: from then on it can be resumed.

    The caller holds the run's lock.

    Raises:
      UserError: if another process was here first, or it cannot be written.
    """
    if os.path.lexists(run.folder / CONFIG):
        raise UserError(f"--run-dir {run.folder} is not empty; name a new folder, or add --resume")
    save_config(run)
    run.checkpoints.mkdir(exist_ok=True)


def undo(run: Run) -> None:
    """Removes what `begin`, and what came after it before training, has written.

    The caller holds the run's lock. Of a run that has trained nothing is removed.
    """
    if not os.path.lexists(run.folder / METRICS):
        for name in (DATA, CONFIG):
            (run.folder / name).unlink(missing_ok=True)


def discard(run: Run) -> None:
    """Removes the folder of a run that did not start, if nothing was written to it."""
    files.remove_empty([run.checkpoints, *run.made])


def open_run(folder: str) -> Run:
    """Opens a run that `train` wrote, with its settings.

    Args:
      folder: the run folder, or the config.json in it.

    Raises:
      UserError: if it is not a run folder, or its config.json is damaged.
    """
    path = Path(folder)
    if path.name != CONFIG or not os.path.isfile(path):
        path /= CONFIG
    if not os.path.isfile(path):
        raise UserError(f"{folder} is not a run folder (no {CONFIG}); name one that `train` wrote")
    values = files.read_json(path)
    try:
        return Run(path.parent, TrainConfig.from_json(values, str(path)))
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
