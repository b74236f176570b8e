"""Accuracy over a split, every image exactly once."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow.compat.v1 as tf

from alexnet_tf1 import files
from alexnet_tf1.alexnet import AlexNet, FcBatchNorm, build_alexnet
from alexnet_tf1.checkpoint.reader import Checkpoint
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data import batches
from alexnet_tf1.data.dataset import Dataset, Split
from alexnet_tf1.data.load import load_dataset
from alexnet_tf1.errors import UserError
from alexnet_tf1.fast.kernels import Kernels, choose
from alexnet_tf1.recipes.optimizer import Optimization
from alexnet_tf1.reporting import confusion
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.session import open_session
from alexnet_tf1.system import hardware
from alexnet_tf1.system.signals import StopRequest


class Accuracies(NamedTuple):
    """A model's accuracy on a split, in both modes of normalisation.

    Attributes:
      inference: fraction right with is_training False.
      batch_statistics: fraction right with is_training True: every normalisation uses the
        moments of the test batch. Nothing is trained.
    """

    inference: float
    batch_statistics: float

    @property
    def gap_points(self) -> float:
        """Batch statistics minus inference, in percentage points."""
        return 100 * (self.batch_statistics - self.inference)


class Answers(NamedTuple):
    """What a model makes of each image of a split.

    Attributes:
      hits: bool [N], whether each image was classified as its label.
      logits: float32 [N, 10].
    """

    hits: npt.NDArray[np.bool_]
    logits: npt.NDArray[np.float32]


def hits(
    session: Any,
    net: AlexNet,
    split: Split,
    batch_size: int,
    *,
    is_training: bool = False,
    stop: StopRequest | None = None,
) -> npt.NDArray[np.bool_]:
    """Classifies every image of a split once.

    Args:
      session: with the weights.
      net: the network in its graph.
      split: images and labels.
      batch_size: images a batch; the last batch holds what is left.
      is_training: False for inference, True for batch statistics.
      stop: where a request to stop is noted, if any; looked at after each batch.

    Returns:
      bool [N], whether each image was classified as its label.

    Raises:
      Stopped: if `stop` was asked for.
    """
    found = []
    for images, labels in batches.in_order(split, batch_size):
        feed = {net.images: images, net.labels: labels, net.is_training: is_training}
        found.append(session.run(net.hits, feed))
        if stop:
            stop.check()
    return np.concatenate(found)


def answers(session: Any, net: AlexNet, split: Split, batch_size: int) -> Answers:
    """As `hits` in inference, and the logits from the same pass."""
    found = []
    for images, labels in batches.in_order(split, batch_size):
        feed = {net.images: images, net.labels: labels, net.is_training: False}
        found.append(session.run([net.hits, net.logits], feed))
    own_hits, logits = zip(*found, strict=True)
    return Answers(np.concatenate(own_hits), np.concatenate(logits))


def flip_accuracy(session: Any, net: AlexNet, split: Split, batch_size: int) -> float:
    """The fraction right by the mean probabilities of each image and its mirror image."""
    hits = []
    for images, labels in batches.in_order(split, batch_size):
        mirrored = images.reshape(-1, 3, 32, 32)[..., ::-1].reshape(-1, 3072)
        both = [
            session.run(net.probabilities, {net.images: side, net.is_training: False})
            for side in (images, mirrored)
        ]
        hits.append(np.argmax(both[0] + both[1], axis=1) == labels)
    return float(np.concatenate(hits).mean())


def restore(session: Any, net: AlexNet, checkpoint: str) -> None:
    """Restores what the forward pass reads, and all else that the checkpoint has.

    A checkpoint of either `fc_batch_norm` fits a graph of the other: they differ only in what
    their moving averages need while training, and that may be missing here.

    Args:
      session: of the network's graph.
      net: the network.
      checkpoint: prefix of its files.

    Raises:
      UserError: if the checkpoint is damaged or of another network.
    """
    remedy = "name a checkpoint that `train` wrote"
    try:
        saved = Checkpoint(checkpoint).variables  # looks before TensorFlow's reader does
        shapes = {name: list(variable.shape) for name, variable in saved.items()}
        present = [v for v in tf.global_variables() if v.op.name in shapes]
        averages = [v for norm in net.norms for v in (norm.moving_mean, norm.moving_variance)]
        for variable in [*tf.trainable_variables(), *averages]:
            if shapes.get(variable.op.name) != variable.shape.as_list():
                raise UserError(
                    f"{checkpoint} is of another network: {variable.op.name} is "
                    f"{shapes.get(variable.op.name, 'missing')}, not {variable.shape}; {remedy}"
                )
        session.run(tf.global_variables_initializer())
        tf.train.Saver(present).restore(session, checkpoint)
    except (tf.errors.OpError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{checkpoint} cannot be read ({reason}); {remedy}") from None


def kernels_of(config: TrainConfig) -> Kernels:
    """The ops that a run computes with, on this machine."""
    return choose(fast=config.fast, bfloat16=config.precision == "bfloat16", gpu=hardware.has_gpu())


def network(config: TrainConfig, *, with_train_op: bool = True) -> AlexNet:
    """Builds a run's network in the current graph, as build_alexnet does."""
    return build_alexnet(
        config.update_ops,
        config.fc_batch_norm,
        config.learning_rate,
        kernels=kernels_of(config),
        optimization=Optimization.of(config),
        with_train_op=with_train_op,
    )


def load_data(run: runs.Run, data_dir: str | None) -> Dataset:
    """Loads the data set that a run was trained on; `data_dir` overrides the run's folder."""
    folder = data_dir or run.config.data_dir
    return load_dataset(
        run.config.dataset,
        Path(folder) if folder else None,
        announce=lambda line: print(line, file=sys.stderr),
    )


def evaluate(
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
    path = run.checkpoint(checkpoint)
    data = load_data(run, data_dir)
    with tf.Graph().as_default(), open_session(fast=config.fast) as session:
        net = network(config)
        restore(session, net, path)
        inference = answers(session, net, data.test, config.batch_size)
        with_batch = hits(session, net, data.test, config.batch_size, is_training=True)
        flipped = flip_accuracy(session, net, data.test, config.batch_size) if flip else None
    measured = Accuracies(float(inference.hits.mean()), float(with_batch.mean()))
    found = {
        "run": run_dir,
        "checkpoint": path,
        "dataset": describe(data),
        "batch_size": config.batch_size,
        "fc_batch_norm": config.fc_batch_norm,
        "test_accuracy_full": measured.inference,
        "batch_statistics_accuracy_full": measured.batch_statistics,
        "gap_points": measured.gap_points,
        **({} if flipped is None else {"flip_accuracy_full": flipped}),
    }
    return found | confusion.write(found, data, inference.logits, run.folder) if pictures else found


def describe(data: Dataset) -> dict[str, Any]:
    """The data set as results name it: name, verified, and how many images."""
    return {
        "name": data.name,
        "verified": data.verified,
        "train_images": len(data.train.labels),
        "test_images": len(data.test.labels),
    }
