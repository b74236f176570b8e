"""Measures and explains a run's training-vs-inference gap."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1 import files
from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.batchnorm import measure as measuring
from alexnet_tf1.batchnorm.audit import audit_graph
from alexnet_tf1.batchnorm.doctor import examine_checkpoint
from alexnet_tf1.batchnorm.measure import Classify
from alexnet_tf1.batchnorm.recalibrate import Statistics
from alexnet_tf1.batchnorm.report import Fault
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.batches import SCALED
from alexnet_tf1.data.dataset import Split
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
from alexnet_tf1.reporting.text import one_line
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs import network

JSON, PICTURE = "diagnose.json", "diagnose.png"


def diagnose(
    run_dir: str, *, checkpoint: str | None = None, images: int = 2_000, data_dir: str | None = None
) -> dict[str, Any]:
    """Measures the gap between a run's accuracy in training and in inference, and explains it.

    Writes diagnose.json and diagnose.png into the run folder; where that cannot be written to, it
    says so on standard error and does without them.

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
    is_writable = _is_writable(run.folder)
    path = run.checkpoint(checkpoint)
    data = network.load_data(run, data_dir)
    check_images(images, len(data.test.labels))
    test = Split(data.test.images[:images], data.test.labels[:images])
    sizes = sorted({*measuring.BATCH_SIZES, run.config.batch_size})
    with restored(run.config, path) as (session, net, _):
        # Before any test: in the original's graph, testing moves the averages.
        averages = session.run([(norm.moving_mean, norm.moving_variance) for norm in net.norms])
        steps = session.run(net.global_step)
        modes = {
            BATCH: _classifier(session, net, test, is_training=True),
            INFERENCE: _classifier(session, net, test),
        }
        effects = measuring.side_effects(
            session,
            tf.global_variables(),
            modes[INFERENCE],
            np.arange(images),
            run.config.batch_size,
        )
        cells = measuring.sweep(modes, test.labels, sizes)
    # As recalibration does it.
    estimated_from = min(RECALIBRATION_IMAGES, len(data.train.labels))
    with recalibrated(run.config, path, data, estimated_from) as (session, precise_net, precise):
        modes = {PRECISE: _classifier(session, precise_net, test)}
        cells += measuring.sweep(modes, test.labels, sizes)
    faults = [*_audit(run.config), *examine_checkpoint(path).faults]
    batch_size = min(run.config.batch_size, images)
    batch, inference = (
        measuring.accuracy_at(cells, mode, batch_size, "stored") for mode in (BATCH, INFERENCE)
    )
    found: dict[str, Any] = {
        "run": run_dir,
        "checkpoint": path,
        "dataset": network.describe(data),
        "images": images,
        "batch_size": batch_size,
        "layers": [
            _layer(norm, kept, precise[norm.name], faults, steps)
            for norm, kept in zip(net.norms, averages, strict=True)
        ],
        "faults": [fault._asdict() for fault in faults],
        "cells": [cell._asdict() for cell in cells],
        "gap_points": 100 * (batch - inference),
        "repeatable": effects.repeatable,
        "changed_variables": effects.changed_variables,
    }
    found["verdict"] = verdict(found)
    if is_writable:
        files.write_json(run.folder / JSON, found)
        plots.diagnosis(found, run.folder / PICTURE)
    return found


def _is_writable(folder: Path) -> bool:
    """Tells whether the two files can be written; where not, it says so."""
    try:
        files.check_writable(folder, JSON, PICTURE, remedy=f"{JSON} and {PICTURE} are left out")
    except files.NotWritableError as error:
        print(one_line(f"warning: {error}"), file=sys.stderr)
        return False
    return True


def _layer(
    norm: Norm, averages: Statistics, precise: Statistics, faults: Sequence[Fault], steps: int
) -> dict[str, Any]:
    """Describes a layer's averages: what is left of their start, how far off they are."""
    off = measuring.distance(*averages, *precise)
    never_updated = ("BN101", norm.name) in {(fault.rule, fault.layer) for fault in faults}
    return {
        "name": norm.name,
        "moving_averages": [norm.moving_mean.op.name, norm.moving_variance.op.name],
        "lag": norm.decay ** (0 if never_updated else steps),
        "mean_distance": off.mean,
        "variance_distance": off.variance,
    }


def _audit(config: TrainConfig) -> Sequence[Fault]:
    """Audits the graph that a run with these settings trains."""
    with tf.Graph().as_default() as graph:
        net = network.build_network(in_float32(config))
        return audit_graph(
            graph, train_ops=[net.train_op], logits=net.logits, is_training=net.is_training
        ).faults


def _classifier(session: Any, net: AlexNet, test: Split, *, is_training: bool = False) -> Classify:
    def classify(rows: measuring.Rows) -> measuring.Hits:
        feed = {net.images: SCALED[test.images[rows]], net.labels: test.labels[rows]}
        return np.asarray(session.run(net.hits, {**feed, net.is_training: is_training}))

    return classify
