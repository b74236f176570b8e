"""A run's accuracy over the whole test set, in inference and with batch statistics."""

import dataclasses
import sys
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1 import evaluate, files
from alexnet_tf1.alexnet import AlexNet, FcBatchNorm
from alexnet_tf1.data import batches
from alexnet_tf1.data.dataset import Split
from alexnet_tf1.reporting import confusion, progress
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs import network
from alexnet_tf1.session import open_session


def evaluate_run(
    run_dir: str,
    *,
    batch_size: int | None = None,
    fc_batch_norm: FcBatchNorm | None = None,
    checkpoint: str | None = None,
    data_dir: str | None = None,
    pictures: bool = False,
    flip: bool = False,
) -> dict[str, Any]:
    """Measures a run's accuracy over the whole test set, every image exactly once.

    Args:
      run_dir: the run folder.
      batch_size: images a batch, at least 1; None for the run's.
      fc_batch_norm: statistics of the fully connected layers; None for the run's.
      checkpoint: a checkpoint's prefix or step; None for the newest.
      data_dir: folder of CIFAR-10; None for the run's.
      pictures: whether to write confusion.png and worst.png into the run folder.
      flip: whether to classify also by the mean of an image's and its mirror image's
        probabilities, in inference. That is two passes an image: no figure to compare with others.

    Returns:
      A JSON-ready dict: checkpoint, dataset, batch_size, fc_batch_norm, test_accuracy_full,
      batch_statistics_accuracy_full, gap_points; with `pictures` also class_names, confusion
      (rows are true classes), worst and pictures (names of the files); with `flip`,
      flip_accuracy_full.

    Raises:
      UserError: if the run, checkpoint or data cannot be used.
    """
    run = runs.open_run(run_dir)
    if pictures:
        files.check_writable(run.folder, confusion.MATRIX, confusion.WORST)
    config = dataclasses.replace(
        run.config,
        batch_size=batch_size or run.config.batch_size,
        fc_batch_norm=fc_batch_norm or run.config.fc_batch_norm,
    )
    run.checkpoint(checkpoint)  # before the data is read, as a mistake in it would come late
    data = network.load_data(run, data_dir)
    with tf.Graph().as_default(), open_session(fast=config.fast) as session:
        net = network.build_network(config)
        path = network.restore_chosen(session, net, run, checkpoint)
        on = session, net, data.test, config.batch_size
        total = (4 if flip else 2) * len(data.test.labels)
        with progress.bar(total, "images", stream=sys.stderr) as advance:
            inference = evaluate.answers(*on, after_batch=advance)
            batch = evaluate.hits(*on, is_training=True, after_batch=advance)
            flipped = flip and flip_accuracy(*on, after_batch=advance)
    found = {
        "run": run_dir,
        "checkpoint": path,
        "dataset": network.describe(data),
        "batch_size": config.batch_size,
        "fc_batch_norm": config.fc_batch_norm,
        "test_accuracy_full": float(inference.hits.mean()),
        "batch_statistics_accuracy_full": float(batch.mean()),
        "gap_points": float(100 * (batch.mean() - inference.hits.mean())),
    }
    if flip:
        found["flip_accuracy_full"] = flipped
    return found | confusion.write(found, data, inference.logits, run.folder) if pictures else found


def flip_accuracy(
    session: Any, net: AlexNet, split: Split, batch_size: int, *, after_batch: evaluate.AfterBatch
) -> float:
    """Measures the fraction right by the mean probabilities of each image and its mirror image.

    The arguments are those of evaluate.answers; both passes over a batch are counted.
    """
    hits = []
    for images, labels in batches.in_order(split, batch_size):
        mirrored = images.reshape(-1, 3, 32, 32)[..., ::-1].reshape(-1, 3072)
        original, flipped = (
            session.run(net.probabilities, {net.images: side, net.is_training: False})
            for side in (images, mirrored)
        )
        hits.append(np.argmax(original + flipped, axis=1) == labels)
        after_batch(2 * len(labels))
    return float(np.concatenate(hits).mean())
