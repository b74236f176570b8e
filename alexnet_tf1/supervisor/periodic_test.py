"""A test within a run: the original's, and beside it measurements that leave no trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from alexnet_tf1 import evaluate
from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.batchnorm.measure import Distance, distance
from alexnet_tf1.data import batches
from alexnet_tf1.data.dataset import Split
from alexnet_tf1.system.signals import Stopped, StopRequest


class Layer(NamedTuple):
    """One batch normalisation in a test.

    Attributes:
      name: of the layer.
      moving_mean: float32 [C], as training left it, before the test.
      moving_variance: float32 [C], as training left it.
      distance: from the batches' statistics, see `BatchMoments.distance`.
    """

    name: str
    moving_mean: npt.NDArray[np.float32]
    moving_variance: npt.NDArray[np.float32]
    distance: Distance


class Tested(NamedTuple):
    """What a test found.

    Attributes:
      accuracy: fraction right in inference, the original's figure.
      batch_statistics_accuracy: fraction right on the same images in the same batches when every
        layer normalises with the batch.
      layers: the batch normalisations in forward order.
    """

    accuracy: float
    batch_statistics_accuracy: float
    layers: tuple[Layer, ...]


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

    Returns:
      What it found.

    Raises:
      Stopped: if `stop` was asked for; every variable is as if no test had begun.
    """
    averages = [v for norm in net.norms for v in (norm.moving_mean, norm.moving_variance)]
    before = session.run(averages)
    try:
        hits = evaluate.hits(session, net, split, batch_size, stop=stop)
        after = session.run(averages)
        found, moments = _with_batch_statistics(session, net, split, batch_size, stop)
    except Stopped:
        _load(session, averages, before)
        raise
    _load(session, averages, after)
    return Tested(
        accuracy=float(hits.mean()),
        batch_statistics_accuracy=found,
        layers=tuple(
            Layer(norm.name, mean, variance, seen.distance(mean, variance))
            for norm, seen, mean, variance in zip(
                net.norms, moments, before[::2], before[1::2], strict=True
            )
        ),
    )


class BatchMoments:
    """The mean and variance of a layer's inputs in a batch, averaged over batches.

    What a moving average estimates: not the population's variance, which also holds how the
    batches' means differ.
    """

    def __init__(self) -> None:
        self._batches = 0
        self._mean: Any = 0.0
        self._variance: Any = 0.0

    def add(self, inputs: npt.NDArray[Any]) -> None:
        """Adds a batch: [N, C] or [N, H, W, C], what the layer normalises."""
        rows = inputs.reshape(-1, inputs.shape[-1]).astype(np.float32, copy=False)
        with np.errstate(all="ignore"):  # a run about to diverge
            mean = rows.mean(axis=0, dtype=np.float64)
            away = rows - mean.astype(np.float32)
            variance = np.square(away, out=away).mean(axis=0, dtype=np.float64)
        self._batches += 1
        self._mean, self._variance = self._mean + mean, self._variance + variance

    def distance(
        self,
        moving_mean: npt.NDArray[np.float32],
        moving_variance: npt.NDArray[np.float32],
    ) -> Distance:
        """How far moving averages, [C] each, are from the batches' statistics.

        With m and v the batches' mean and variance (divided by the number of values) of a
        channel, averaged over the batches, M and V the moving ones, epsilon 0.001 as in the
        layers, r the larger of (V + epsilon) / (v + epsilon) and its inverse:

          mean: median over channels of |M - m| / sqrt(v + epsilon), in standard deviations.
          variance: ln of the median over channels of r.

        Both are 0 where they agree, do not depend on the scale of the inputs, and are finite
        for a channel that never varies. As in `diagnose`, but for the logarithm; there against
        the precise statistics of training images.

        Returns:
          The two distances.
        """
        with np.errstate(all="ignore"):
            off = distance(
                moving_mean.astype(np.float64),
                moving_variance.astype(np.float64),
                self._mean / self._batches,
                self._variance / self._batches,
            )
            return Distance(off.mean, float(np.log(off.variance)))


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


def _load(session: Any, variables: Sequence[Any], values: Sequence[Any]) -> None:
    """Sets variables in a finalised graph: their initialisers take a value like any other op."""
    initialisers = [variable.initializer for variable in variables]
    given = [initialiser.inputs[1] for initialiser in initialisers]
    session.run(initialisers, dict(zip(given, values, strict=True)))
