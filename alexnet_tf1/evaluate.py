"""Accuracy over a split, every image exactly once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.data import batches
from alexnet_tf1.data.dataset import Split

AfterBatch = Callable[[int], None]  # is told how many images a batch held


class Answers(NamedTuple):
    """A model's answers to the images of a split."""

    hits: npt.NDArray[np.bool_]  # [N], whether each image was classified as its label
    logits: npt.NDArray[np.float32]  # [N, 10]


def answers(
    session: Any,
    net: AlexNet,
    split: Split,
    batch_size: int,
    *,
    is_training: bool = False,
    after_batch: AfterBatch = lambda images: None,
) -> Answers:
    """Classifies every image of a split once.

    Args:
      session: with the weights.
      net: the network in its graph.
      split: images and labels.
      batch_size: images a batch; the last batch holds what is left.
      is_training: False for inference, True for batch statistics.
      after_batch: is called after each batch; what it raises ends the pass.
    """
    found = []
    for images, labels in batches.in_order(split, batch_size):
        feed = {net.images: images, net.labels: labels, net.is_training: is_training}
        found.append(session.run([net.hits, net.logits], feed))
        after_batch(len(labels))
    own_hits, logits = zip(*found, strict=True)
    return Answers(np.concatenate(own_hits), np.concatenate(logits))


def hits(
    session: Any, net: AlexNet, split: Split, batch_size: int, **more: Any
) -> npt.NDArray[np.bool_]:
    """Classifies as `answers`, with its arguments, and keeps only what was right; bool [N]."""
    return answers(session, net, split, batch_size, **more).hits
