"""A training run, from its settings to its result: data, graph, session, loop, tests."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from alexnet_tf1 import evaluate
from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.data.load import load_dataset
from alexnet_tf1.distributed import train as together
from alexnet_tf1.distributed.cluster import Cluster
from alexnet_tf1.distributed.heartbeat import Peers
from alexnet_tf1.distributed.replicas import Team
from alexnet_tf1.distributed.train import ParallelSteps
from alexnet_tf1.errors import UserError
from alexnet_tf1.fast import train as fast
from alexnet_tf1.recipes.augment import batches_for_run
from alexnet_tf1.reporting import plots
from alexnet_tf1.reporting.console import Console
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs.lock import RunLock
from alexnet_tf1.runs.recovery import with_times
from alexnet_tf1.runs.resume import Start, check_data, remember_data, start_of
from alexnet_tf1.session import configuration, describe, open_session
from alexnet_tf1.supervisor.tensorboard import Events
from alexnet_tf1.system import gpu, hardware
from alexnet_tf1.system.signals import Stopped, StopRequest
from alexnet_tf1.train import Loop, Outcome, Steps, first_batches

# What TensorFlow makes of a disk that is full or taken away; and, the first, of a full GPU.
_FILE_ERRORS = (
    tf.errors.ResourceExhaustedError,
    tf.errors.UnknownError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.FailedPreconditionError,
    tf.errors.OutOfRangeError,
)


def train(
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
            return _train(runs.Run(run.folder, config), resume, team, Console(quiet=quiet))
    except (OSError, *_FILE_ERRORS) as error:
        if "OOM when allocating" in str(error):
            raise UserError(
                f"--batch-size {config.batch_size} does not fit into the memory of "
                f"{hardware.device()}; use fewer images a step"
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


def _train(run: runs.Run, resume: bool, team: Team, out: Console) -> dict[str, Any]:
    """`train`, once the folder is this process's."""
    config = run.config
    data = load_dataset(
        config.dataset,
        Path(config.data_dir) if config.data_dir else None,
        announce=out.announce,
        progress=sys.stderr.isatty() and not out.quiet,
    )
    config = dataclasses.replace(_fit(config, data, out), dataset=data.name)
    run = runs.Run(run.folder, config)
    start = Start()
    if resume:
        check_data(run, data)
    with together.joined(team, config, data, out) as peers:
        if resume:
            start = start_of(run, announce=out.announce)
        else:
            remember_data(run, data)
        runs.save_config(run)
        return _train_graph(run, data, start, resume, team, peers, out)


def _train_graph(
    run: runs.Run,
    data: Dataset,
    start: Start,
    resume: bool,
    team: Team,
    peers: Peers | None,
    out: Console,
) -> dict[str, Any]:
    """`_train`, once every worker is there."""
    config = run.config
    found_gpu = gpu.look()
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(config.seed)
        net = evaluate.network(config, with_train_op=not config.fast and team.replicas == 1)
        loop = parts = None
        if team.replicas > 1:
            parts = together.build(net, config, team)
            net = parts.net
        elif config.fast:
            loop = fast.build_loop(net, config)
            net = net._replace(train_op=loop.train_op)
        initialise = tf.global_variables_initializer()
        saver = tf.train.Saver(max_to_keep=config.keep, save_relative_paths=True)
        graph.finalize()
        with _session(config, peers) as session, StopRequest() as stop:
            session.run(initialise)
            walk = batches_for_run(config, data.train, team.part(config.batch_size))
            out.introduce(run, data, net, found_gpu)
            if start.checkpoint:
                saver.restore(session, start.checkpoint)
                saver.set_last_checkpoints_with_time(with_times(start.kept))
                walk.skip(start.step, config.batch_size)
            if peers and parts:
                peers.watch(session)
                together.share_start(session, parts, peers)
            if resume:
                out.say(f"resumed after step {start.step:,}")
            steps: Steps | fast.FastSteps | ParallelSteps
            if loop:
                steps = fast.FastSteps(session, loop, walk, config.batch_size)
            elif parts:
                steps = ParallelSteps(session, parts, walk, config, stop, peers)
            else:
                steps = Steps(session, net, walk, config.batch_size)
            with Events(run.folder, graph) as events:
                events.begin(config, start.step, run.metrics())
                outcome = Loop(
                    run=run,
                    data=data,
                    net=net,
                    steps=steps,
                    session=session,
                    saver=saver,
                    events=events,
                    stop=steps.stop if isinstance(steps, ParallelSteps) else stop,
                    out=out,
                ).train(start)
            if isinstance(steps, ParallelSteps):
                steps.leave()
            accuracies = None
            if outcome.stopped_by is None:
                out.say("Testing every image in both modes ...")
                try:
                    accuracies = _final_test(config, data, net, session, stop)
                except Stopped:
                    outcome = outcome._replace(stopped_by=stop.received)
    result = {
        **_result(run, data, outcome, start, accuracies),
        "workers": team.workers,
        "gpu_note": found_gpu.note,
    }
    run.write_result(result)
    plots.curves(run.metrics(), result, run.folder / "curves.png")
    out.conclude(run, result)
    return result


def _session(config: TrainConfig, peers: Peers | None) -> Any:
    if peers:
        found = peers.configuration(config.precision)
        return open_session(fast=config.fast, target=peers.target, config=found)
    return open_session(fast=config.fast, config=configuration(config.devices))


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
        "peak_rss_mb": hardware.peak_rss_mb(),
        "device": hardware.device(),
        "execution": describe(fast=run.config.fast, precision=run.config.precision),
        "versions": hardware.versions(),
        "stopped_by": outcome.stopped_by,
    }
