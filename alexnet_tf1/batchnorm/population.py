"""Population statistics, added up from batches (Precise-BN).

A forgotten update never hurt the weights: they were trained on batch statistics. What inference
lacks are the population's statistics under those weights, and they can be measured afterwards
(Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", arXiv 2105.07576, section 3).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Statistics(NamedTuple):
    """Mean and variance of each channel over a population."""

    mean: npt.NDArray[np.float64]  # float64 [C]
    variance: npt.NDArray[np.float64]  # float64 [C], of the whole population (not divided by N - 1)


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
