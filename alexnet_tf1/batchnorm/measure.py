"""The training-vs-inference gap, measured: a model in order gives one number everywhere.

Works on any classifier given as functions from images to hits; knows nothing of networks.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Hits = npt.NDArray[np.bool_]
Classify = Callable[[Rows], Hits]
Order = Literal["stored", "sorted"]

BATCH_SIZES = (1, 2, 5, 20, 100, 1000)


class Cell(NamedTuple):
    """One measured accuracy."""

    mode: str  # statistics that normalised, e.g. "inference"
    order: Order  # "stored", or "sorted" by class, so that a batch holds one or two classes
    batch_size: int  # images tested together
    accuracy: float  # fraction right


def sweep(
    modes: Mapping[str, Classify],
    labels: npt.NDArray[np.int64],
    batch_sizes: Sequence[int] = BATCH_SIZES,
) -> list[Cell]:
    """Measures the accuracy on the same images: a cell for each mode, order and test batch size.

    Args:
      modes: by name, a function that classifies the images of the given rows as one batch and
        returns whether each was right.
      labels: int64 [N], the classes to sort by.
      batch_sizes: images tested together; one larger than N is measured as N.
    """
    orders: dict[Order, Rows] = {
        "stored": np.arange(len(labels)),
        "sorted": np.argsort(labels, kind="stable"),
    }
    sizes = sorted({min(size, len(labels)) for size in batch_sizes})
    cells: list[Cell] = []
    for mode, classify in modes.items():
        for size in sizes:
            for order, rows in orders.items():
                if order == "sorted" and size == 1:  # one image has no order
                    accuracy = cells[-1].accuracy
                else:
                    accuracy = float(classify_all(classify, rows, size).mean())
                cells.append(Cell(mode, order, size, accuracy))
    return cells


def classify_all(classify: Classify, rows: Rows, batch_size: int) -> Hits:
    """Classifies rows, int64 [N], in batches of which the last holds what is left; bool [N]."""
    starts = range(0, len(rows), batch_size)
    return np.concatenate([classify(rows[start : start + batch_size]) for start in starts])


def accuracy_at(cells: Sequence[Cell], mode: str, batch_size: int, order: Order) -> float:
    """Looks up one accuracy of a sweep, 0 to 1.

    Raises:
      KeyError: if it was not measured.
    """
    return {(c.mode, c.batch_size, c.order): c.accuracy for c in cells}[mode, batch_size, order]


class SideEffects(NamedTuple):
    """The side effects of evaluating."""

    repeatable: bool  # whether a second evaluation gave the same answer for every image
    changed_variables: list[str]  # names of the variables that the two evaluations changed


def side_effects(
    session: Any, variables: Sequence[Any], classify: Classify, rows: Rows, batch_size: int
) -> SideEffects:
    """Evaluates twice in inference mode, and compares the answers and these variables."""
    before = session.run(list(variables))
    first, second = (classify_all(classify, rows, batch_size) for _ in range(2))
    after = session.run(list(variables))
    changed = [
        variable.op.name
        for variable, old, new in zip(variables, before, after, strict=True)
        if not np.array_equal(old, new, equal_nan=True)
    ]
    return SideEffects(bool((first == second).all()), changed)


class Distance(NamedTuple):
    """The distance of a layer's moving averages from other statistics of its inputs."""

    mean: float  # median over channels of |moving mean - mean| in standard deviations
    # median over channels of the larger of moving variance / variance and its inverse; 1 is exact
    variance: float


def distance(
    moving_mean: npt.NDArray[Any],
    moving_variance: npt.NDArray[Any],
    mean: npt.NDArray[Any],
    variance: npt.NDArray[Any],
    epsilon: float = 1e-3,
) -> Distance:
    """Compares a layer's moving averages, [C] each, with the population's (biased) statistics.

    The layer's epsilon is added to both variances.
    """
    deviation = np.sqrt(variance + epsilon)
    ratio = (moving_variance + epsilon) / (variance + epsilon)
    return Distance(
        float(np.median(np.abs(moving_mean - mean) / deviation)),
        float(np.median(np.maximum(ratio, 1 / ratio))),
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
        self, moving_mean: npt.NDArray[np.float32], moving_variance: npt.NDArray[np.float32]
    ) -> Distance:
        """Measures how far moving averages, [C] each, are from the batches' statistics.

        With m and v the batches' mean and variance (divided by the number of values) of a
        channel, averaged over the batches, M and V the moving ones, epsilon 0.001 as in the
        layers, r the larger of (V + epsilon) / (v + epsilon) and its inverse:

          mean: median over channels of |M - m| / sqrt(v + epsilon), in standard deviations.
          variance: median over channels of r.

        Neither depends on the scale of the inputs, and both are finite for a channel that never
        varies.
        """
        with np.errstate(all="ignore"):
            return distance(
                moving_mean.astype(np.float64),
                moving_variance.astype(np.float64),
                self._mean / self._batches,
                self._variance / self._batches,
            )
