"""A training run, from its settings to its result: lock, data, where it begins, loop, files."""

import contextlib
import dataclasses
import errno
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from alexnet_tf1 import train as training
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data import cifar10
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.data.load import load_dataset
from alexnet_tf1.distributed import handshake
from alexnet_tf1.distributed import train as distributed_training
from alexnet_tf1.distributed.cluster import Cluster
from alexnet_tf1.distributed.replicas import Team
from alexnet_tf1.errors import UserError
from alexnet_tf1.fast import train as fast_training
from alexnet_tf1.reporting import plots
from alexnet_tf1.reporting.console import Console
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs import network, recovery
from alexnet_tf1.runs.lock import RunLock
from alexnet_tf1.runs.resume import Start, check_data, remember_data, start_of
from alexnet_tf1.session import describe
from alexnet_tf1.supervisor.hooks import Outcome, RunHooks
from alexnet_tf1.system import gpu, hardware
from alexnet_tf1.system.terminal import show

# What TensorFlow makes of a disk that is full or taken away; and, the first, of a full GPU.
_FILE_ERRORS = (
    tf.errors.ResourceExhaustedError,
    tf.errors.UnknownError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.FailedPreconditionError,
    tf.errors.OutOfRangeError,
)


def run_training(
    config: TrainConfig,
    *,
    resume: bool = False,
    quiet: bool = False,
    cluster: Cluster | None = None,
) -> dict[str, Any]:
    """Trains the network and writes a run folder.

    Args:
      config: the settings; to resume, those that `resume.settings` gives.
      resume: whether to go on with the run in config.run_dir.
      quiet: prints the result only; warnings go to standard error then.
      cluster: the workers to train with, of which this process is the chief; None for none.

    Returns:
      What result.json holds. When a signal stopped the run, `stopped_by` is its number and the
      final accuracies are None.

    Raises:
      UserError: if the data or the run folder cannot be used, the loss is not finite, or another
        worker is lost.
    """
    team = Team(cluster, config.devices)
    team.check(config)
    run = runs.open_run(str(config.run_dir)) if resume else runs.create(config)
    out = Console(quiet=quiet)
    try:
        with RunLock(run.folder):
            earlier = _earlier_result(run, out) if resume else None
            if earlier and earlier.get("stopped_by") is None and earlier["steps"] >= config.steps:
                show(f"{run.folder} is finished: {earlier['steps']:,} steps; nothing to resume")
                return earlier
            if not resume:
                runs.begin(run)
            try:
                return _run(runs.Run(run.folder, config), resume, team, out)
            except (OSError, *_FILE_ERRORS):
                with contextlib.suppress(UserError):  # of a file that cannot be removed
                    recovery.sweep(run.checkpoints)  # half a checkpoint would keep the disk full
                raise
            except (UserError, KeyboardInterrupt):  # others are told to go on with --resume
                if not resume:
                    runs.undo(run)
                raise
    except (OSError, *_FILE_ERRORS) as error:
        if "OOM when allocating" in str(error):
            raise UserError(
                f"--batch-size {config.batch_size} does not fit into the memory of "
                f"{hardware.device()}; use fewer images a step"
            ) from None
        saved = any(run.checkpoints.glob("*.index"))  # which Saver writes last
        raise UserError(
            f"{run.folder} cannot be written ({_reason(error)}); "
            f"{'what was saved is whole' if saved else 'nothing was saved yet'}: make room, then "
            "go on with --resume"
        ) from None
    finally:
        runs.discard(run)  # if nothing was written to it


def _earlier_result(run: runs.Run, out: Console) -> dict[str, Any] | None:
    """Reads result.json; a damaged one does not stop a resumption, which writes it again."""
    try:
        return run.result()
    except UserError as error:
        out.announce(f"warning: {error}: it is written again")
        return None


def _reason(error: Exception) -> str:
    """Finds the system's words in TensorFlow's error: "PATH; File too large" -> File too large."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(error)
    said = [words for words in map(os.strerror, errno.errorcode) if words in text]
    return min(said, key=text.index) if said else type(error).__name__


def _run(run: runs.Run, resume: bool, team: Team, out: Console) -> dict[str, Any]:
    """Runs the training, once the folder is this process's."""
    config = run.config
    data = load_dataset(
        config.dataset,
        Path(config.data_dir) if config.data_dir else None,
        announce=out.announce,
        progress=sys.stderr.isatty() and not out.quiet,
    )
    config = dataclasses.replace(_fit(config, data, out), dataset=data.name)
    if data.name == "cifar10":  # looked up once: the next command may run elsewhere
        config = dataclasses.replace(config, data_dir=_found_in(config.data_dir))
    run = runs.Run(run.folder, config)
    if resume:
        check_data(run, data, announce=out.announce)
    with handshake.joined(team, config, data, out.say) as peers:
        if resume:
            start = start_of(run, announce=out.announce)
        else:
            start = Start()
            remember_data(run, data)
        runs.save_config(run)
        found_gpu = gpu.look()
        train: Callable[..., Outcome] = fast_training.train if config.fast else training.train
        if team.replicas > 1:
            train = functools.partial(distributed_training.train, team=team, peers=peers)
        with RunHooks(run, data, start, out, found_gpu=found_gpu, replicas=team.replicas) as hooks:
            outcome = train(config, data, hooks)
    taken = outcome.steps - start.step
    tested = "test_accuracy", "test_accuracy_full", "batch_statistics_accuracy_full", "gap_points"
    result = {
        "dataset": network.describe(data),
        "config": dataclasses.asdict(run.config),
        "steps": outcome.steps,
        "final_loss": outcome.loss,
        **(outcome.accuracies or dict.fromkeys(tested)),
        "wall_s": outcome.wall_s,
        "steps_per_s": taken / outcome.wall_s if taken else None,
        "resumed_after_step": start.step or None,
        "peak_rss_mb": hardware.peak_rss_mb(),
        "device": hardware.device(),
        "execution": describe(fast=run.config.fast, precision=run.config.precision),
        "versions": hardware.versions(),
        "stopped_by": outcome.stopped_by,
        "workers": team.workers,
        "gpu_note": found_gpu.note,
    }
    plots.curves(run.metrics(), result, run.folder / "curves.png")
    run.write_result(result)  # last: a run that has a result is finished
    out.conclude(run, result)
    return result


def _found_in(data_dir: str | None) -> str:
    """Names the folder where the images were found, as every command finds it again."""
    return os.path.abspath(cifar10.root_folder(Path(data_dir) if data_dir else None))


def _fit(config: TrainConfig, data: Dataset, out: Console) -> TrainConfig:
    """Checks batch sizes against the data before anything is built; says what it changes."""
    available = len(data.test.labels) // config.batch_size
    if config.batch_size > len(data.train.labels) or available == 0:
        most = min(len(data.train.labels), len(data.test.labels))
        raise UserError(
            f"--batch-size {config.batch_size} is larger than the data set {data.name}; "
            f"use at most {most}"
        )
    if config.test_batches > available:
        out.announce(
            f"--test-batches: {available} instead of {config.test_batches}, all that the "
            f"{len(data.test.labels):,} test images make in batches of {config.batch_size}"
        )
        return dataclasses.replace(config, test_batches=available)
    return config
