"""Population statistics re-estimated from training data (Precise-BN).

A forgotten update never hurt the weights: they were trained on batch statistics. What inference
lacks are the population's statistics under those weights, and they can be measured afterwards
(Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", arXiv 2105.07576, section 3).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow.compat.v1 as tf

Feed = dict[Any, Any]


class Normalisation(Protocol):
    """A batch normalisation whose statistics can be replaced.

    Attributes:
      name: as people call it.
      inputs: float tensor [N, ..., C] that it normalises.
      moving_mean: variable [C] that inference subtracts.
      moving_variance: variable [C] that inference divides by.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def inputs(self) -> Any: ...  # noqa: D102
    @property
    def moving_mean(self) -> Any: ...  # noqa: D102
    @property
    def moving_variance(self) -> Any: ...  # noqa: D102


class Statistics(NamedTuple):
    """Mean and variance of each channel over a population."""

    mean: npt.NDArray[np.float64]  # float64 [C]
    variance: npt.NDArray[np.float64]  # float64 [C], of the whole population (not divided by N - 1)


class Recalibration:
    """Re-estimates the statistics of a graph's batch normalisations.

    Build it before the graph is finalised: it adds the ops that measure and assign.

    Attributes:
      batch_moments: for each layer, the mean and variance of its inputs, float32 [C] each.
    """

    def __init__(self, layers: Sequence[Normalisation]) -> None:
        """Adds the ops for `layers`, given in forward order, to their graph."""
        self._layers = tuple(layers)
        self.batch_moments = [
            tf.nn.moments(layer.inputs, list(range(layer.inputs.shape.rank - 1)))
            for layer in self._layers
        ]
        averages = [(layer.moving_mean, layer.moving_variance) for layer in self._layers]
        self._values = [[tf.placeholder(tf.float32, v.shape) for v in pair] for pair in averages]
        self._assigns = [
            list(map(tf.assign, pair, values))
            for pair, values in zip(averages, self._values, strict=True)
        ]

    def layer_by_layer(
        self, session: Any, inference_feeds: Callable[[], Iterable[Feed]]
    ) -> dict[str, Statistics]:
        """Estimates and assigns one layer after the other, and returns them by layer name.

        Each layer sees its inputs as inference shows them: normalised by the layers before it
        with their new statistics. One pass over the batches a layer.

        Args:
          session: with the weights.
          inference_feeds: called once a layer; what to feed for each batch, with the switch set
            to inference.
        """
        statistics = {}
        for layer, moments in zip(self._layers, self.batch_moments, strict=True):
            population = Population()
            for feed in inference_feeds():
                population.add(*session.run(moments, feed))
            statistics[layer.name] = population.statistics()
            self.assign(session, {layer.name: statistics[layer.name]})
        return statistics

    def assign(self, session: Any, statistics: Mapping[str, Statistics]) -> None:
        """Makes inference use these statistics, by layer name; the other layers keep theirs."""
        for layer, values, assigns in zip(self._layers, self._values, self._assigns, strict=True):
            if layer.name in statistics:
                session.run(assigns, dict(zip(values, statistics[layer.name], strict=True)))


class Population:
    """Adds up the moments of batches.

    var(X) = mean(var + mean^2) - mean(mean)^2: the mean of the batches' variances alone would
    leave out how the batches' means differ, and with small batches that is much.
    """

    def __init__(self) -> None:
        self._examples = 0
        self._mean: Any = 0.0
        self._square: Any = 0.0

    def add(
        self, mean: npt.NDArray[np.floating], variance: npt.NDArray[np.floating], examples: int = 1
    ) -> None:
        """Adds a batch's mean and variance, [C] each; it counts as that many examples."""
        wide = mean.astype(np.float64)
        self._examples += examples
        self._mean = self._mean + examples * wide
        self._square = self._square + examples * (variance + wide**2)

    def statistics(self) -> Statistics:
        """The mean and variance of all batches together."""
        mean = self._mean / self._examples
        # Rounding may leave a channel that never varies a hair below zero.
        return Statistics(mean, np.maximum(self._square / self._examples - mean**2, 0.0))
