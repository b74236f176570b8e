"""Finds where an interrupted run goes on, so that it ends in the bits it would have ended in."""

import dataclasses
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from alexnet_tf1 import files
from alexnet_tf1.config import TrainConfig, option
from alexnet_tf1.data import cifar10
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.errors import UserError
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs import metrics, recovery

# The options that a resumed run may be given anew.
MAY_DIFFER = ("run_dir", "data_dir", "steps", "devices", "worker_timeout")


class Start(NamedTuple):
    """The place where a run goes on.

    The order of the examples follows from the seed and the step (`Batches.skip`). So a checkpoint
    of every variable and config.json are enough.

    Attributes:
      step: steps trained.
      checkpoint: prefix to restore; None to begin at the beginning.
      kept: prefixes of the older checkpoints, the oldest first.
      test_is_due: whether this step has a [Test]; the checkpoint was saved before it.
      resumed: whether the run was begun before.
    """

    step: int = 0
    checkpoint: str | None = None
    kept: tuple[str, ...] = ()
    test_is_due: bool = False
    resumed: bool = False


def settings(given: Mapping[str, Any]) -> TrainConfig:
    """Reads the settings to go on with: the run's own, which the given options may not contradict.

    Args:
      given: the options that were typed, by field name.

    Returns:
      The run's settings, with `steps` and the other options of MAY_DIFFER, where given.

    Raises:
      UserError: if there is no such run, or an option differs from the run's.
    """
    if given.get("run_dir") is None:
        raise UserError("--resume needs --run-dir; name the folder of the run to go on with")
    config = runs.open_run(given["run_dir"]).config
    differing = [
        f"{option(name)} {value} (the run's: {getattr(config, name)})"
        for name, value in given.items()
        if name not in MAY_DIFFER
        and value != getattr(config, name)
        and not (name == "dataset" and value == "auto")
    ]
    if differing:
        raise UserError(
            f"--resume with {', '.join(differing)}: a run goes on with its own settings; "
            "leave these out, or start a new run"
        )
    steps = given.get("steps", config.steps)
    if steps < config.steps:
        raise UserError(f"--steps {steps} is less than the run's {config.steps}; it may only grow")
    if steps > config.steps and config.schedule == "one-cycle":
        raise UserError(
            f"--steps {steps} is more than the run's {config.steps}, in which its one-cycle rate "
            "comes down to 0; start a new run"
        )
    if given.get("data_dir") is None:
        check_data_dir(config)
    return dataclasses.replace(config, **{n: given[n] for n in MAY_DIFFER if n in given})


def check_data_dir(config: TrainConfig) -> None:
    """Refuses a run's own data folder that does not hold CIFAR-10's files.

    A run folder may be a stranger's: nothing is made, unpacked or downloaded where it says so.

    Raises:
      UserError: if it is to be read and does not hold them.
    """
    if config.data_dir and config.dataset != "synthetic":
        cifar10.check_unpacked(Path(config.data_dir))


def start_of(run: runs.Run, announce: Callable[[str], None]) -> Start:
    """Finds where to go on, and removes what a kill left behind.

    Metrics of later steps are removed too, as they will be written again.

    Args:
      run: to go on with; this process holds its lock.
      announce: takes a line for each newer checkpoint that is damaged, and for missing metrics.

    Raises:
      UserError: if no checkpoint is whole though there are some, or the metrics are damaged.
    """
    run.checkpoints.mkdir(exist_ok=True)
    checkpoint = recovery.newest_sound(run.checkpoints, announce)
    recovery.sweep(run.checkpoints)
    step = _step_of(checkpoint) if checkpoint else 0
    cut_metrics(run.folder / runs.METRICS, step, run.config)
    _check_metrics(run, step, announce)
    there = (str(path.with_suffix("")) for path in run.checkpoints.glob("model.ckpt-*.index"))
    older = sorted(
        (name for name in there if name.rpartition("-")[2].isdecimal() and _step_of(name) <= step),
        key=_step_of,
    )
    for name in older[: -run.config.keep]:  # killed before it was removed
        recovery.remove(name)
    test_is_due = step > 0 and step % run.config.test_every == 0
    return Start(step, checkpoint, tuple(older[-run.config.keep :]), test_is_due, resumed=True)


def _step_of(prefix: str) -> int:
    """Reads the step in a checkpoint's name: .../model.ckpt-2500 -> 2500."""
    return int(prefix.rpartition("-")[2])


def _check_metrics(run: runs.Run, step: int, announce: Callable[[str], None]) -> None:
    """Says which lines before a checkpoint are not there: they are not written again."""
    config = run.config
    due = step if step == config.steps else step - step % config.log_every
    logged = max((r["step"] for r in run.metrics() if "loss" in r), default=0)
    if logged < due:
        announce(
            f"warning: {run.folder / runs.METRICS} ends at step {logged:,}, before the checkpoint "
            f"of step {step:,}: what was logged in between is lost"
        )


def cut_metrics(path: Path, step: int, config: TrainConfig) -> None:
    """Removes what a run that goes on after `step` writes again or would not have written.

    That is what came later, the line of a last step that is no longer the last (as --steps has
    grown, or a signal had ended the run), and a line that a kill cut short.

    Args:
      path: of metrics.jsonl; it need not be there.
      step: of the checkpoint; the test at this step comes after it.
      config: the run's settings.

    Raises:
      UserError: if another line is not a record.
    """
    if not os.path.lexists(path):
        return
    data = files.read_bytes(path, metrics.MAX_BYTES, files.RESTORE)
    lines = data.splitlines(keepends=True)
    kept = []
    for number, line in enumerate(lines, 1):
        try:
            record = metrics.record(line, f"{path}, line {number}")
        except UserError:
            if number == len(lines):
                break
            raise
        tested = "test_accuracy" in record
        again = record["step"] > step or (record["step"] == step and tested)
        was_last = (
            not tested and record["step"] % config.log_every != 0 and record["step"] != config.steps
        )
        if not again and not was_last:
            kept.append(line if line.endswith(b"\n") else line + b"\n")
    if kept != lines:
        files.write_bytes(path, b"".join(kept))


def remember_data(run: runs.Run, data: Dataset) -> None:
    """Notes which images a run is trained on; `check_data` compares."""
    files.write_json(run.folder / runs.DATA, fingerprint(data))


def check_data(run: runs.Run, data: Dataset, announce: Callable[[str], None]) -> None:
    """Compares the images with those that the run began with.

    Where there is no note, as the run was killed before it or is older, or where it is damaged,
    which `announce` is told, the images are noted now.

    Raises:
      UserError: if they differ.
    """
    found = fingerprint(data)
    try:
        noted = files.read_json(run.folder / runs.DATA)
    except UserError as error:
        announce(f"warning: {error}: the images are not compared, and it is written again")
        noted = None
    if noted is None:
        files.write_json(run.folder / runs.DATA, found)
    elif noted != found:
        raise UserError(
            f"{run.folder} was trained on other images than those of this {data.name}; "
            "name their folder with --data-dir"
        )


def fingerprint(data: Dataset) -> dict[str, Any]:
    """Describes the training images by a few JSON-ready values, among them checksums."""
    return {
        "name": data.name,
        "train_images": len(data.train.labels),
        "crc32_of_train_images": zlib.crc32(data.train.images.data),
        "crc32_of_train_labels": zlib.crc32(data.train.labels.data),
    }
