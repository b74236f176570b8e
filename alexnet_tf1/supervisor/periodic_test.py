"""A test within a run: the original's, and beside it measurements that leave no trace."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from alexnet_tf1 import evaluate
from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.batchnorm.measure import BatchMoments, Distance
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data import batches
from alexnet_tf1.data.dataset import Dataset, Split
from alexnet_tf1.session import set_variables
from alexnet_tf1.system.signals import Stopped, StopRequest


class MovingAverages(NamedTuple):
    """Those of one batch normalisation, as training left them before a test."""

    name: str  # of the layer
    moving_mean: npt.NDArray[np.float32]  # [C]
    moving_variance: npt.NDArray[np.float32]  # [C]
    distance: Distance  # from the batches' statistics, see `BatchMoments.distance`


class Tested(NamedTuple):
    """The findings of a test."""

    accuracy: float  # fraction right in inference, the original's figure
    batch_statistics_accuracy: float  # on the same batches, when all layers normalise with them
    layers: tuple[MovingAverages, ...]  # in forward order


def first_batches(data: Dataset, config: TrainConfig) -> Split:
    """Returns the test images of a [Test] line: the first test_batches batches of the test set."""
    images = config.test_batches * config.batch_size
    return Split(data.test.images[:images], data.test.labels[:images])


def test(session: Any, net: AlexNet, split: Split, batch_size: int, stop: StopRequest) -> Tested:
    """Tests in inference, as the original does, then measures in batch-statistics mode.

    The first pass moves the averages of the original's fully connected layers; that is the
    original's own and stays. The second would move them further, so they are put back to where
    the first had left them: training goes on with the same bits as without it.

    Args:
      session: with the variables.
      net: the network.
      split: the images, whole batches.
      batch_size: images a batch.
      stop: where a request to stop is noted.

    Raises:
      Stopped: if `stop` was asked for; every variable is as if no test had begun.
    """
    averages = [v for norm in net.norms for v in (norm.moving_mean, norm.moving_variance)]
    before = session.run(averages)
    try:
        hits = evaluate.hits(session, net, split, batch_size, after_batch=lambda _: stop.check())
        after = session.run(averages)
        accuracy, moments = _with_batch_statistics(session, net, split, batch_size, stop)
    except Stopped:
        set_variables(session, averages, before)
        raise
    set_variables(session, averages, after)
    layers = tuple(
        MovingAverages(norm.name, mean, variance, seen.distance(mean, variance))
        for norm, seen, mean, variance in zip(
            net.norms, moments, before[::2], before[1::2], strict=True
        )
    )
    return Tested(float(hits.mean()), accuracy, layers)


def _with_batch_statistics(
    session: Any, net: AlexNet, split: Split, batch_size: int, stop: StopRequest
) -> tuple[float, Sequence[BatchMoments]]:
    """Accuracy, and each layer's moments, when every layer normalises with the batch."""
    right, moments = 0, [BatchMoments() for _ in net.norms]
    fetches = [net.hits, [norm.inputs for norm in net.norms]]
    for images, labels in batches.in_order(split, batch_size):
        feed = {net.images: images, net.labels: labels, net.is_training: True}
        hits, inputs = session.run(fetches, feed)
        right += int(hits.sum())
        for layer, value in zip(moments, inputs, strict=True):
            layer.add(value)
        stop.check()
    return right / len(split.labels), moments
