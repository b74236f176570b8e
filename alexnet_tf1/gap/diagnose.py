"""Measures and explains a run's training-vs-inference gap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1 import files
from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.batchnorm import measure as measuring
from alexnet_tf1.batchnorm.audit import audit_graph
from alexnet_tf1.batchnorm.doctor import examine_checkpoint
from alexnet_tf1.batchnorm.measure import Cell, Classify
from alexnet_tf1.batchnorm.recalibrate import Statistics
from alexnet_tf1.batchnorm.report import AuditReport, Fault
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.batches import SCALED
from alexnet_tf1.data.dataset import Dataset, Split
from alexnet_tf1.gap.recalibrate import (
    RECALIBRATION_IMAGES,
    check_images,
    in_float32,
    recalibrated,
    restored,
)
from alexnet_tf1.gap.verdict import BATCH, INFERENCE, PRECISE, verdict
from alexnet_tf1.norms import Norm
from alexnet_tf1.reporting import plots
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs import network


class _Own(NamedTuple):
    """Measurements on the graph that the run trained.

    Attributes:
      steps: training steps of the checkpoint.
      norms: the network's batch normalisations.
      averages: the moving mean and variance of each, float32 [C].
      effects: whether evaluating twice agrees, and which variables it changed.
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
    """Measures the gap between a run's accuracy in training and in inference, and explains it.

    Writes diagnose.json and diagnose.png into the run folder.

    Args:
      run_dir: the run folder.
      checkpoint: a checkpoint's prefix or step; None for the newest.
      images: test images to measure on, the first of the test set.
      data_dir: folder of CIFAR-10; None for the run's.

    Returns:
      The content of diagnose.json: run, checkpoint, dataset, images, batch_size, layers (name,
      moving_averages, lag, mean_distance, variance_distance), faults (rule, layer, message),
      cells, gap_points, repeatable, changed_variables, verdict (sentences).

    Raises:
      UserError: if the run, checkpoint or data cannot be used.
    """
    run = runs.open_run(run_dir)
    files.check_writable(run.folder, "diagnose.json", "diagnose.png")
    path = run.checkpoint(checkpoint)
    data = network.load_data(run, data_dir)
    check_images(images, len(data.test.labels))
    test = Split(data.test.images[:images], data.test.labels[:images])
    own = _measure_own(run.config, path, test)
    precise, cells = _measure_precise(run.config, path, data, test)
    cells = own.cells + cells
    static = audit_run(run.config).faults
    batch_size = min(run.config.batch_size, images)
    found: dict[str, Any] = {
        "run": run_dir,
        "checkpoint": path,
        "dataset": network.describe(data),
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


def audit_run(config: TrainConfig) -> AuditReport:
    """Audits the graph that a run with these settings trains."""
    with tf.Graph().as_default() as graph:
        net = network.build_network(in_float32(config))
        return audit_graph(
            graph, train_ops=[net.train_op], logits=net.logits, is_training=net.is_training
        )


def _measure_own(config: TrainConfig, path: str, test: Split) -> _Own:
    with restored(config, path) as (session, net, _):
        # Before any test: in the original's graph, testing moves the averages.
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
    """Re-estimates the statistics, as recalibration does, and measures the accuracy with them."""
    images = min(RECALIBRATION_IMAGES, len(data.train.labels))
    with recalibrated(config, path, data, images) as (session, net, statistics):
        modes = {PRECISE: _classifier(session, net, test)}
        return statistics, measuring.sweep(modes, test.labels, _sizes(config))


def _layers(
    own: _Own, precise: dict[str, Statistics], faults: Sequence[Fault]
) -> list[dict[str, Any]]:
    """Lists each layer: its averages, how far off they are, and what is left of their start."""
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
    """Subtracts inference from batch-statistics accuracy, in percentage points."""
    batch, inference = (
        measuring.accuracy_at(cells, mode, batch_size, "stored") for mode in (BATCH, INFERENCE)
    )
    return 100 * (batch - inference)


def _classifier(session: Any, net: AlexNet, test: Split, *, is_training: bool = False) -> Classify:
    def classify(rows: measuring.Rows) -> measuring.Hits:
        feed = {net.images: SCALED[test.images[rows]], net.labels: test.labels[rows]}
        return np.asarray(session.run(net.hits, {**feed, net.is_training: is_training}))

    return classify


def _sizes(config: TrainConfig) -> list[int]:
    return sorted({*measuring.BATCH_SIZES, config.batch_size})
