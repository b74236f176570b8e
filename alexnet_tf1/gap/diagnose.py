"""A run's training-vs-inference gap: measured, explained, repaired."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1 import evaluate, files
from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.batchnorm import diagnose as measuring
from alexnet_tf1.batchnorm.audit import AuditReport, audit_graph
from alexnet_tf1.batchnorm.diagnose import Cell, Classify
from alexnet_tf1.batchnorm.doctor import examine_checkpoint
from alexnet_tf1.batchnorm.faults import Fault
from alexnet_tf1.batchnorm.recalibrate import Recalibration, Statistics
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.batches import SCALED, Batches
from alexnet_tf1.data.dataset import Dataset, Split
from alexnet_tf1.errors import UserError
from alexnet_tf1.gap.verdict import BATCH, INFERENCE, PRECISE, verdict
from alexnet_tf1.layers import Norm
from alexnet_tf1.reporting import plots
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs.lock import RunLock
from alexnet_tf1.runs.recovery import with_times
from alexnet_tf1.session import open_session

# Measured on the real images, docs/gap.md: more changes the accuracy by less than its noise.
RECALIBRATION_IMAGES = 1_000
RECALIBRATION_BATCH = 100


class _Own(NamedTuple):
    """What was measured on the graph that the run trained.

    Attributes:
      steps: that the checkpoint was trained for.
      norms: the network's batch normalisations.
      averages: of each, the moving mean and variance, float32 [C].
      effects: whether evaluating repeats itself, and what it changed.
      cells: accuracy by mode, order and test batch size.
    """

    steps: int
    norms: Sequence[Norm]
    averages: list[tuple[Any, Any]]
    effects: measuring.SideEffects
    cells: list[Cell]


def diagnose(
    run_dir: str,
    *,
    checkpoint: str | None = None,
    images: int = 2_000,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Measures where a run's accuracy in training and in inference part, and says why.

    Writes diagnose.json and diagnose.png into the run folder.

    Args:
      run_dir: the run folder.
      checkpoint: a checkpoint's prefix or step; None for the newest.
      images: test images to measure on, the first of the test set.
      data_dir: folder of CIFAR-10; None for the run's.

    Returns:
      What diagnose.json holds: run, checkpoint, dataset, images, batch_size, layers (name,
      moving_averages, lag, mean_distance, variance_distance), faults (rule, layer, message),
      cells, gap_points, repeatable, changed_variables, verdict (sentences).

    Raises:
      UserError: if the run, checkpoint or data cannot be used.
    """
    run = runs.open_run(run_dir)
    files.check_writable(run.folder, "diagnose.json", "diagnose.png")
    path = run.checkpoint(checkpoint)
    data = evaluate.load_data(run, data_dir)
    _check_images(images, len(data.test.labels))
    test = Split(data.test.images[:images], data.test.labels[:images])
    own = _measure_own(run.config, path, test)
    precise, cells = _measure_precise(run.config, path, data, test)
    cells = own.cells + cells
    static = audit_run(run.config).faults
    batch_size = min(run.config.batch_size, images)
    found: dict[str, Any] = {
        "run": run_dir,
        "checkpoint": path,
        "dataset": evaluate.describe(data),
        "images": images,
        "batch_size": batch_size,
        "layers": _layers(own, precise, static),
        "faults": [fault._asdict() for fault in [*static, *examine_checkpoint(path).faults]],
        "cells": [cell._asdict() for cell in cells],
        "gap_points": _gap_points(cells, batch_size),
        "repeatable": own.effects.repeatable,
        "changed_variables": own.effects.changed_variables,
    }
    found["verdict"] = verdict(found)
    files.write_json(run.folder / "diagnose.json", found)
    plots.diagnosis(found, run.folder / "diagnose.png")
    return found


def recalibrate(
    run_dir: str,
    *,
    images: int = RECALIBRATION_IMAGES,
    checkpoint: str | None = None,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Re-estimates a run's population statistics into a new checkpoint, the run's newest.

    All weights and all else in the checkpoint are copied bit for bit.

    Args:
      run_dir: the run folder.
      images: training images to estimate from, the first in the run's own order.
      checkpoint: a checkpoint's prefix or step; None for the newest.
      data_dir: folder of CIFAR-10; None for the run's.

    Returns:
      A dict: checkpoint (the new one), source, dataset, images, and by statistics of the fully
      connected layers ("batch", "ema") the accuracy before and after on the whole test set.

    Raises:
      UserError: if the run, checkpoint or data cannot be used.
    """
    run = runs.open_run(run_dir)
    source = run.checkpoint(checkpoint)
    files.check_writable(run.checkpoints)
    with RunLock(run.folder):  # it writes a checkpoint, as training does
        return _recalibrate(run, source, images, evaluate.load_data(run, data_dir))


def _recalibrate(run: runs.Run, source: str, images: int, data: Dataset) -> dict[str, Any]:
    _check_images(images, len(data.train.labels))
    with restored(_with_ema(run.config), source) as (session, net, repair):
        statistics = _estimate(session, net, repair, data, images, run.config.seed)
    accuracy = {}
    for fc_batch_norm in dict.fromkeys([run.config.fc_batch_norm, "ema"]):
        config = dataclasses.replace(run.config, fc_batch_norm=fc_batch_norm)
        with restored(config, source) as (session, net, repair):
            before = evaluate.hits(session, net, data.test, config.batch_size).mean()
            repair.assign(session, statistics)
            if config == run.config:
                target = _save(session, run, source)
            after = evaluate.hits(session, net, data.test, config.batch_size).mean()
        accuracy[fc_batch_norm] = {"before": float(before), "after": float(after)}
    return {
        "checkpoint": target,
        "source": source,
        "dataset": evaluate.describe(data),
        "images": images,
        "test_accuracy_full": accuracy,
    }


def audit_run(config: TrainConfig) -> AuditReport:
    """Audits the graph that `config` trains."""
    with tf.Graph().as_default() as graph:
        net = evaluate.network(_in_float32(config))
        return audit_graph(
            graph, train_ops=[net.train_op], logits=net.logits, is_training=net.is_training
        )


def _measure_own(config: TrainConfig, path: str, test: Split) -> _Own:
    with restored(config, path) as (session, net, _):
        # First: in the original's graph, testing moves the averages.
        averages = session.run([(norm.moving_mean, norm.moving_variance) for norm in net.norms])
        modes = {
            BATCH: _classifier(session, net, test, is_training=True),
            INFERENCE: _classifier(session, net, test),
        }
        rows = np.arange(len(test.labels))
        effects = measuring.side_effects(
            session, tf.global_variables(), modes[INFERENCE], rows, config.batch_size
        )
        cells = measuring.sweep(modes, test.labels, _sizes(config))
        return _Own(session.run(net.global_step), net.norms, averages, effects, cells)


def _measure_precise(
    config: TrainConfig, path: str, data: Dataset, test: Split
) -> tuple[dict[str, Statistics], list[Cell]]:
    """The statistics that recalibration would give, and the accuracy with them."""
    images = min(RECALIBRATION_IMAGES, len(data.train.labels))
    with restored(_with_ema(config), path) as (session, net, repair):
        statistics = _estimate(session, net, repair, data, images, config.seed)
        modes = {PRECISE: _classifier(session, net, test)}
        return statistics, measuring.sweep(modes, test.labels, _sizes(config))


def _layers(
    own: _Own, precise: dict[str, Statistics], faults: Sequence[Fault]
) -> list[dict[str, Any]]:
    """By layer: its averages, what is left in them of their start, how far off they are."""
    never_updated = {fault.layer for fault in faults if fault.rule == "BN101"}
    rows = []
    for norm, averages in zip(own.norms, own.averages, strict=True):
        off = measuring.distance(*averages, *precise[norm.name])
        updates = 0 if norm.name in never_updated else own.steps
        rows.append(
            {
                "name": norm.name,
                "moving_averages": [norm.moving_mean.op.name, norm.moving_variance.op.name],
                "lag": norm.decay**updates,
                "mean_distance": off.mean,
                "variance_distance": off.variance,
            }
        )
    return rows


def _gap_points(cells: Sequence[Cell], batch_size: int) -> float:
    """Batch statistics minus inference in batches of the run's size, in percentage points."""
    batch, inference = (
        measuring.accuracy_at(cells, mode, batch_size, "stored") for mode in (BATCH, INFERENCE)
    )
    return 100 * (batch - inference)


@contextmanager
def restored(config: TrainConfig, path: str) -> Iterator[tuple[Any, AlexNet, Recalibration]]:
    """A session with a checkpoint's weights in the graph that `config` describes."""
    with tf.Graph().as_default(), open_session() as session:
        net = evaluate.network(_in_float32(config))
        repair = Recalibration(net.norms)
        evaluate.restore(session, net, path)
        yield session, net, repair


def _estimate(
    session: Any, net: AlexNet, repair: Recalibration, data: Dataset, images: int, seed: int
) -> dict[str, Statistics]:
    """Precise statistics from the first training images in the run's own order."""
    size = min(RECALIBRATION_BATCH, images)

    def feeds() -> Iterator[dict[Any, Any]]:
        batches = Batches(data.train, seed)
        for _ in range(images // size):
            yield {net.images: batches.next_batch(size)[0], net.is_training: False}

    return repair.layer_by_layer(session, feeds)


def _save(session: Any, run: runs.Run, source: str) -> str:
    """Writes a session's variables beside the checkpoint they came from, as the newest."""
    state = tf.train.get_checkpoint_state(str(run.checkpoints))
    others = list(state.all_model_checkpoint_paths) if state else []
    names = {name for name, _ in tf.train.list_variables(source)}
    saver = tf.train.Saver(
        [variable for variable in tf.global_variables() if variable.op.name in names],
        max_to_keep=len(others) + 1,
        save_relative_paths=True,
    )
    saver.set_last_checkpoints_with_time(with_times(others))
    base = run.checkpoints / f"model.ckpt-{session.run(tf.train.get_global_step())}-recalibrated"
    target, number = str(base), 1
    while os.path.exists(f"{target}.index"):
        number += 1
        target = f"{base}-{number}"
    try:
        # The state file, which names the newest, is written last.
        saver.export_meta_graph(f"{target}.meta")
        return str(saver.save(session, target, write_meta_graph=False))
    except tf.errors.OpError as error:
        for path in run.checkpoints.glob(f"{glob.escape(os.path.basename(target))}.*"):
            path.unlink()  # a part of a checkpoint is none
        reason = error.message.splitlines()[0]
        raise UserError(f"{target} cannot be written ({reason}); free the place") from None


def _classifier(session: Any, net: AlexNet, test: Split, *, is_training: bool = False) -> Classify:
    def classify(rows: measuring.Rows) -> measuring.Hits:
        feed = {net.images: SCALED[test.images[rows]], net.labels: test.labels[rows]}
        return np.asarray(session.run(net.hits, {**feed, net.is_training: is_training}))

    return classify


def _sizes(config: TrainConfig) -> list[int]:
    return sorted({*measuring.BATCH_SIZES, config.batch_size})


def _with_ema(config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(config, fc_batch_norm="ema")


def _in_float32(config: TrainConfig) -> TrainConfig:
    """Diagnosis and repair compute with the original's ops, however the run was trained."""
    return dataclasses.replace(config, fast=False, precision="float32")


def _check_images(images: int, available: int) -> None:
    if not 1 <= images <= available:
        raise UserError(f"--images {images} is not in 1 to {available}, what the data set has")
