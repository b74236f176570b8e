"""Accuracy over a split, every image exactly once."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.data import batches
from alexnet_tf1.data.dataset import Split
from alexnet_tf1.system.signals import StopRequest


class Answers(NamedTuple):
    """A model's answers to the images of a split."""

    hits: npt.NDArray[np.bool_]  # [N], whether each image was classified as its label
    logits: npt.NDArray[np.float32]  # [N, 10]


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
    """Classifies as `hits` in inference, and keeps the logits."""
    found = []
    for images, labels in batches.in_order(split, batch_size):
        feed = {net.images: images, net.labels: labels, net.is_training: False}
        found.append(session.run([net.hits, net.logits], feed))
    own_hits, logits = zip(*found, strict=True)
    return Answers(np.concatenate(own_hits), np.concatenate(logits))
