"""Repairs a run: re-estimates its population statistics and writes them to a new checkpoint."""

import dataclasses
import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1 import evaluate, files
from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.batchnorm.model.feeds import Examples
from alexnet_tf1.batchnorm.model.live import assign
from alexnet_tf1.batchnorm.model.prepare import Prepared, prepare
from alexnet_tf1.batchnorm.model.setting import settings
from alexnet_tf1.batchnorm.model.source import live_model
from alexnet_tf1.batchnorm.model.trial import Trial
from alexnet_tf1.batchnorm.population import Statistics
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.batches import Batches
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.errors import UserError
from alexnet_tf1.reporting import progress
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs import network, recovery
from alexnet_tf1.runs.lock import RunLock
from alexnet_tf1.runs.saving import save
from alexnet_tf1.session import open_session

# Measured on the real images, docs/gap.md: more changes the accuracy by less than its noise.
RECALIBRATION_IMAGES = 1_000
RECALIBRATION_BATCH = 100


def recalibrate(
    run_dir: str,
    *,
    images: int = RECALIBRATION_IMAGES,
    checkpoint: str | None = None,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Re-estimates a run's population statistics and writes them to a new checkpoint.

    The new checkpoint is then the run's newest. Everything else in it, the weights included, is
    copied bit for bit.

    Args:
      run_dir: the run folder.
      images: training images to estimate from, the first that the run trained on.
      checkpoint: a checkpoint's prefix or step; None for the newest.
      data_dir: folder of CIFAR-10; None for the run's.

    Returns:
      JSON-ready: run, checkpoint (the new one), source (the old one), dataset, images and
      test_accuracy_full. That holds, for each `fc_batch_norm` ("batch", "ema"), the accuracy on
      the whole test set `before` and `after`, 0 to 1.

    Raises:
      UserError: if the run, checkpoint or data cannot be used.
    """
    run = runs.open_run(run_dir)
    source = run.checkpoint(checkpoint)
    files.check_writable(run.checkpoints)
    accuracy = {}
    with RunLock(run.folder):  # it writes a checkpoint, as training does
        recovery.sweep(run.checkpoints)  # of what a killed one left
        data = network.load_data(run, data_dir)
        check_images(images, len(data.train.labels))
        with restored(run.config, source) as (session, net):
            prepared = prepared_for(session, net)
            statistics = estimated(prepared, run.config, data, images)
            trial = Trial(prepared, fed(net, data.train.images[:1]), RECALIBRATION_BATCH)
            values = settings(trial, statistics).values
        for fc_batch_norm in dict.fromkeys([run.config.fc_batch_norm, "ema"]):
            config = dataclasses.replace(run.config, fc_batch_norm=fc_batch_norm)
            with (
                restored(config, source) as (session, net),
                progress.bar(2 * len(data.test.labels), "images", stream=sys.stderr) as advance,
            ):
                on = session, net, data.test, config.batch_size
                before = evaluate.hits(*on, after_batch=advance).mean()
                assign(session, values)
                if config == run.config:
                    target = _save(session, run, source)
                after = evaluate.hits(*on, after_batch=advance).mean()
            accuracy[fc_batch_norm] = {"before": float(before), "after": float(after)}
    return {
        "run": run_dir,
        "checkpoint": target,
        "source": source,
        "dataset": network.describe(data),
        "images": images,
        "test_accuracy_full": accuracy,
    }


@contextmanager
def restored(config: TrainConfig, path: str) -> Iterator[tuple[Any, AlexNet]]:
    """Opens a session with the weights of the checkpoint `path`, for the original's ops."""
    with tf.Graph().as_default(), open_session() as session:
        net = network.build_network(in_float32(config))
        network.restore(session, net, path)
        yield session, net


def prepared_for(session: Any, net: AlexNet) -> Prepared:
    """Takes a run's network, restored, to where anybody's model is measured."""
    examples = fed(net, np.zeros([1, *net.images.shape[1:]], np.float32))
    return prepare(live_model(session), examples, net.logits, net.is_training)


def fed(net: AlexNet, images: Any) -> Examples:
    """Gives the examples of images, float32 [N, 3072] as the network takes them."""
    return Examples({net.images.name: images}, {}, len(images))


def estimated(
    prepared: Prepared, config: TrainConfig, data: Dataset, images: int
) -> dict[str, Statistics]:
    """Estimates the population's statistics from the first images that the run trained on.

    Args:
      prepared: its network.
      config: its settings.
      data: its data.
      images: how many; a set that has fewer gives all.

    Returns:
      By layer, those that all four normalisations would have in inference.
    """
    images = min(images, len(data.train.labels))
    size = min(RECALIBRATION_BATCH, images)
    batches = Batches(data.train, config.seed)
    found = np.concatenate([batches.next_batch(size)[0] for _ in range(images // size)])
    (name,) = prepared.arrays
    return Trial(prepared, Examples({name: found}, {}, len(found)), size).estimate()


def _save(session: Any, run: runs.Run, source: str) -> str:
    """Saves a session's variables as the run's newest checkpoint, beside the one at `source`."""
    others = run.all_checkpoints()
    saved = {name for name, _ in tf.train.list_variables(source)}
    saver = tf.train.Saver(
        [variable for variable in tf.global_variables() if variable.op.name in saved],
        max_to_keep=len(others) + 1,
        save_relative_paths=True,
    )
    base = run.checkpoints / f"model.ckpt-{session.run(tf.train.get_global_step())}-recalibrated"
    names = itertools.chain([str(base)], (f"{base}-{number}" for number in itertools.count(2)))
    target = next(name for name in names if not os.path.exists(f"{name}.index"))
    try:
        return save(session, saver, target, others, keep=len(others) + 1)[-1]
    except (OSError, tf.errors.OpError) as error:
        recovery.remove(target)  # part of a checkpoint is no checkpoint
        recovery.sweep(run.checkpoints)
        reason = (getattr(error, "message", None) or files.reason(error)).splitlines()[0]
        raise UserError(f"{target} cannot be written ({reason}); free the place") from None


def in_float32(config: TrainConfig) -> TrainConfig:
    """Replaces fast and less precise ops, if the run used them, by the original's."""
    return dataclasses.replace(config, fast=False, precision="float32")


def check_images(images: int, available: int) -> None:
    """Refuses --images with fewer than 1 or more than are available (UserError)."""
    if not 1 <= images <= available:
        raise UserError(f"--images {images} is not in 1 to {available}, what the data set has")
