"""The session loop."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1 import console, dataset, evaluate, fast, machine, plots, progress, runs
from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.batches import Batches
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.dataset import Dataset
from alexnet_tf1.errors import UserError
from alexnet_tf1.lock import RunLock
from alexnet_tf1.resume import Start, check_data, remember_data, start_of
from alexnet_tf1.session import describe, open_session
from alexnet_tf1.signals import Stopped, StopRequest

# What TensorFlow makes of a disk that is full or taken away; and, the first, of a full GPU.
_FILE_ERRORS = (
    tf.errors.ResourceExhaustedError,
    tf.errors.UnknownError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.FailedPreconditionError,
    tf.errors.OutOfRangeError,
)


class Outcome(NamedTuple):
    """How the loop ended.

    Attributes:
      steps: steps trained, those before a resumption included.
      loss: of the last step, in nats, before its update; None where none was taken.
      wall_s: seconds from this process's first step to its last, tests and checkpoints included.
      stopped_by: the signal that ended it early, or None.
    """

    steps: int
    loss: float | None
    wall_s: float
    stopped_by: int | None


def train(config: TrainConfig, *, resume: bool = False) -> dict[str, Any]:
    """Trains the network and writes a run folder.

    Args:
      config: the settings; to resume, those that `resume.settings` gives.
      resume: whether to go on with the run in config.run_dir.

    Returns:
      What result.json holds. When a signal stopped the run, `stopped_by` is its number and the
      final accuracies are None.

    Raises:
      UserError: if the data or the run folder cannot be used, or the loss is not finite.
    """
    if resume:
        run = runs.open_run(str(config.run_dir))
        finished = run.result()
    else:
        run, finished = runs.create(config), None
    try:
        with RunLock(run.folder):
            if (
                finished
                and finished.get("stopped_by") is None
                and finished["steps"] >= config.steps
            ):
                print(f"{run.folder} is finished: {finished['steps']:,} steps; nothing to resume")
                return finished
            return _train(runs.Run(run.folder, config), resume)
    except (OSError, *_FILE_ERRORS) as error:
        if "OOM when allocating" in str(error):
            raise UserError(
                f"--batch-size {config.batch_size} does not fit into the memory of "
                f"{machine.device()}; use fewer images a step"
            ) from None
        raise UserError(
            f"{run.folder} cannot be written ({_reason(error)}); what was saved is whole: make "
            "room, then go on with --resume"
        ) from None
    finally:
        runs.discard(run)  # if nothing was written to it


def _reason(error: Exception) -> str:
    """What the system says, out of what TensorFlow makes of it: "PATH; File too large"."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    lines = str(error).splitlines()
    said = [line.rpartition("; ")[2] for line in lines if line.startswith("/") and "; " in line]
    return (said or lines)[0]


def _train(run: runs.Run, resume: bool) -> dict[str, Any]:
    """`train`, once the folder is this process's."""
    config = run.config
    data = dataset.load(
        config.dataset,
        Path(config.data_dir) if config.data_dir else None,
        announce=print,
        progress=sys.stderr.isatty(),
    )
    config = dataclasses.replace(_fit(config, data), dataset=data.name)
    run = runs.Run(run.folder, config)
    start = Start()
    if resume:
        check_data(run, data)
        start = start_of(run, announce=print)
    else:
        remember_data(run, data)
    runs.save_config(run)
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(config.seed)
        net = evaluate.network(config, with_train_op=not config.fast)
        loop = None
        if config.fast:
            loop = fast.build_loop(net, config)
            net = net._replace(train_op=loop.train_op)
        initialise = tf.global_variables_initializer()
        saver = tf.train.Saver(max_to_keep=config.keep, save_relative_paths=True)
        graph.finalize()
        with open_session(fast=config.fast) as session, StopRequest() as stop:
            if loop:
                loop.fill(session, data.train)
                # The graph has the images now; a second copy would be 154 MB for nothing.
                data = data._replace(train=data.train._replace(images=data.train.images[:0].copy()))
            session.run(initialise)
            batches = Batches(data.train, config.seed)
            console.introduce(run, data, net)
            if start.checkpoint:
                saver.restore(session, start.checkpoint)
                saver.recover_last_checkpoints(start.kept)
                batches.skip(start.step, config.batch_size)
            if resume:
                print(f"resumed after step {start.step:,}")
            steps: Steps | fast.FastSteps = (
                fast.FastSteps(session, loop, batches, config.batch_size)
                if loop
                else Steps(session, net, batches, config.batch_size)
            )
            with tf.summary.FileWriter(str(run.folder), graph) as writer:
                # Tells TensorBoard to forget what a killed process logged after its checkpoint.
                writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), start.step)
                outcome = _loop(run, data, net, steps, session, saver, writer, stop, start)
            accuracies = None
            if outcome.stopped_by is None:
                print("Testing every image in both modes ...")
                try:
                    accuracies = _final_test(config, data, net, session, stop)
                except Stopped:
                    outcome = outcome._replace(stopped_by=stop.received)
    result = _result(run, data, outcome, start, accuracies)
    run.write_result(result)
    plots.curves(run.metrics(), result, run.folder / "curves.png")
    console.conclude(run, result)
    return result


class Steps:
    """Takes training steps as the original does: a batch, a session.run.

    Attributes:
      most: how many steps the next call may take.
    """

    most = 1

    def __init__(self, session: Any, net: AlexNet, batches: Batches, batch_size: int) -> None:
        self._session = session
        self._net = net
        self._batches = batches
        self._batch_size = batch_size

    def take(self, steps: int) -> tuple[Sequence[float], Sequence[float]]:
        """Trains one step; returns its loss in nats and its accuracy, before the update."""
        net = self._net
        images, labels = self._batches.next_batch(self._batch_size)
        loss, accuracy, _ = self._session.run(
            [net.loss, net.accuracy, net.train_op],
            {net.images: images, net.labels: labels, net.is_training: True},
        )
        return [loss], [accuracy]


def _loop(
    run: runs.Run,
    data: Dataset,
    net: AlexNet,
    steps: Steps | fast.FastSteps,
    session: Any,
    saver: Any,
    writer: Any,
    stop: StopRequest,
    start: Start,
) -> Outcome:
    """The original's loop: steps, and now and then a line, a test, a save."""
    config = run.config
    step, loss, stand_in = start.step, None, console.of(data)
    stopping = start.test_is_due and not _test(run, data, net, session, writer, stop, step)
    started = logged = time.perf_counter()
    with progress.bar(config.steps) as advance:
        while step < config.steps and not stopping:
            losses, accuracies = steps.take(min(steps.most, _until_next_event(config, step)))
            _check_finite(losses, step, run)
            step += len(losses)
            loss, accuracy = float(losses[-1]), float(accuracies[-1])
            if step % config.log_every == 0:
                now = time.perf_counter()
                # The first line after a resumption may cover fewer steps than the others.
                covered = min(config.log_every, step - start.step)
                rate = covered * config.batch_size / (now - logged)
                logged = now
                print(f"[Train] Step: {step}, loss: {loss:.5f}, acc:{accuracy:.5f}{stand_in}")
                _record(run, writer, step, loss=loss, accuracy=accuracy, images_per_s=rate)
            stopping = stop.received is not None
            test = step % config.test_every == 0 and not stopping
            save = step % config.checkpoint_every == 0 or step == config.steps or stopping
            # Testing moves the averages of the original's fully connected layers. A checkpoint
            # is from before its step's test, so that who resumes there does the test again.
            if save:
                saver.save(session, str(run.checkpoints / "model.ckpt"), global_step=step)
            if test and not _test(run, data, net, session, writer, stop, step):
                stopping = True
                if not save:
                    saver.save(session, str(run.checkpoints / "model.ckpt"), global_step=step)
            advance(step)
    wall_s = time.perf_counter() - started
    return Outcome(step, loss, wall_s, stop.received if stopping else None)


def _test(
    run: runs.Run,
    data: Dataset,
    net: AlexNet,
    session: Any,
    writer: Any,
    stop: StopRequest,
    step: int,
) -> bool:
    """Tests the first batches and logs it; if a signal comes, False, as if it had not begun."""
    config = run.config
    averages = [v for norm in net.norms for v in (norm.moving_mean, norm.moving_variance)]
    before = session.run(averages)
    tested = first_batches(data, config)
    try:
        found = evaluate.hits(session, net, tested, config.batch_size, stop=stop).mean()
    except Stopped:
        for variable, value in zip(averages, before, strict=True):
            variable.load(value, session)
        return False
    print(f"[Test] Step: {step}, acc:{found:.5f}{console.of(data)}")
    _record(run, writer, step, test_accuracy=float(found))
    return True


def _check_finite(losses: Any, step: int, run: runs.Run) -> None:
    """Ends a run whose loss, `losses` after `step`, is infinite or not a number."""
    finite = np.isfinite(losses)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise UserError(
            f"the loss is {losses[bad]} at step {step + 1 + bad}; lower --learning-rate "
            f"{run.config.learning_rate} ({run.folder} keeps what was logged)"
        )


def _until_next_event(config: TrainConfig, step: int) -> int:
    """How many steps there are until something else is due: a line, a test, a save, the end."""
    every = (config.log_every, config.test_every, config.checkpoint_every)
    return min(config.steps - step, *(cadence - step % cadence for cadence in every))


def first_batches(data: Dataset, config: TrainConfig) -> dataset.Split:
    """The test images of a [Test] line: the first test_batches batches of the test set."""
    images = config.test_batches * config.batch_size
    return dataset.Split(data.test.images[:images], data.test.labels[:images])


def _fit(config: TrainConfig, data: Dataset) -> TrainConfig:
    """Checks batch sizes against the data before anything is built; says what it changes."""
    available = len(data.test.labels) // config.batch_size
    if config.batch_size > len(data.train.labels) or available == 0:
        most = min(len(data.train.labels), len(data.test.labels))
        raise UserError(
            f"--batch-size {config.batch_size} is larger than the data set {data.name}; "
            f"use at most {most}"
        )
    if config.test_batches > available:
        print(
            f"--test-batches: {available} instead of {config.test_batches}, all that the "
            f"{len(data.test.labels):,} test images make in batches of {config.batch_size}"
        )
        return dataclasses.replace(config, test_batches=available)
    return config


def _final_test(
    config: TrainConfig, data: Dataset, net: AlexNet, session: Any, stop: StopRequest
) -> dict[str, float]:
    """Every test image once in each mode; the original's own figure is among them."""
    inference = evaluate.hits(session, net, data.test, config.batch_size, stop=stop)
    batch = evaluate.hits(session, net, data.test, config.batch_size, is_training=True, stop=stop)
    first = len(first_batches(data, config).labels)
    return {
        "test_accuracy": float(inference[:first].mean()),
        "test_accuracy_full": float(inference.mean()),
        "batch_statistics_accuracy_full": float(batch.mean()),
        "gap_points": float(100 * (batch.mean() - inference.mean())),
    }


def _result(
    run: runs.Run,
    data: Dataset,
    outcome: Outcome,
    start: Start,
    accuracies: dict[str, float] | None,
) -> dict[str, Any]:
    taken = outcome.steps - start.step
    untested = dict.fromkeys(
        ("test_accuracy", "test_accuracy_full", "batch_statistics_accuracy_full", "gap_points")
    )
    return {
        "dataset": evaluate.describe(data),
        "config": dataclasses.asdict(run.config),
        "steps": outcome.steps,
        "final_loss": outcome.loss,
        **(accuracies or untested),
        "wall_s": outcome.wall_s,
        "steps_per_s": taken / outcome.wall_s if taken else None,
        "resumed_after_step": start.step or None,
        "peak_rss_mb": machine.peak_rss_mb(),
        "device": machine.device(),
        "execution": describe(fast=run.config.fast, precision=run.config.precision),
        "versions": machine.versions(),
        "stopped_by": outcome.stopped_by,
    }


def _record(run: runs.Run, writer: Any, step: int, **values: float) -> None:
    """One line of metrics.jsonl and the same values for TensorBoard."""
    run.log(step=step, **values)
    summary = tf.Summary()
    for name, value in values.items():
        summary.value.add(tag=name, simple_value=value)
    writer.add_summary(summary, step)
