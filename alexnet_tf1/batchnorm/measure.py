"""The training-vs-inference gap, measured: a model in order gives one answer everywhere.

Works on any model given as functions from examples to outputs; knows nothing of networks.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Array = npt.NDArray[Any]
Compute = Callable[[Rows], Array]  # the outputs, [N, ...], of the examples of these rows as a batch
Order = Literal["stored", "sorted"]

BATCH_SIZES = (1, 2, 5, 20, 100, 1000)


class Cell(NamedTuple):
    """The result of one way of testing."""

    mode: str  # statistics that normalised, e.g. "inference"
    order: Order  # "stored", or "sorted", so that a batch holds what is alike
    batch_size: int  # examples tested together
    accuracy: float | None  # fraction right, where labels are known
    distance: float  # of the outputs from the reference, see Judge


class Judge:
    """Judges a model's outputs by labels, where there are some, and by reference outputs.

    Attributes:
      order: int64 [N], the examples so that those of a batch are alike: by label, or without labels
        by the output that varies most.
    """

    def __init__(
        self, reference: Array, labels: Array | None = None, *, probability: bool = False
    ) -> None:
        """Takes what the outputs are compared with.

        Args:
          reference: [N, ...], outputs of all examples that do not depend on their batches.
          labels: int [N] for outputs [N, K] of K classes, or 0 and 1 for outputs [N] or [N, 1];
            int [N, ...] for outputs [N, ..., K].
          probability: whether an only output is a probability, not a logit.
        """
        self._reference = reference.astype(np.float64)
        self._labels, self._threshold = labels, 0.5 if probability else 0.0
        flat = self._reference.reshape(len(reference), -1)
        deviations = flat.std(axis=0)
        self._spread = float(np.sqrt(np.square(deviations).mean()))
        keys = flat[:, int(deviations.argmax())] if labels is None else labels
        self.order = np.argsort(keys.reshape(len(keys), -1)[:, 0], kind="stable")

    def accuracy(self, outputs: Array) -> float | None:
        """The fraction of right answers, 0 to 1; None without labels."""
        if self._labels is None:
            return None
        if outputs.size == self._labels.size:
            answers = outputs.reshape(self._labels.shape) > self._threshold
        else:
            answers = outputs.argmax(axis=-1)
        return float((answers == self._labels).mean())

    def distance(self, outputs: Array) -> float:
        """Measures how far outputs, [N, ...], lie from the reference, in spreads of the outputs.

        That is sqrt(mean((y - r)^2)) / sqrt(mean over outputs of var(r)), with r the reference and
        var its variance over the examples. 0 is the same; at 1 the difference is as large as that
        between examples. Where the reference does not vary, the divisor is the size of y - r
        itself: 1, or 0 if there is no difference.
        """
        with np.errstate(all="ignore"):  # a model that is broken enough overflows
            off = float(np.sqrt(np.square(outputs.astype(np.float64) - self._reference).mean()))
        if not np.isfinite(off):
            return float(np.finfo(np.float64).max)  # JSON has no infinity
        return off / (self._spread or off or 1.0)


def sweep(
    modes: Mapping[str, Compute],
    judge: Judge,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    progress: Callable[[int], None] = lambda examples: None,
) -> list[Cell]:
    """Judges the same examples: a cell for each mode, order and test batch size.

    Args:
      modes: by name, a function that computes the outputs of the given rows as one batch.
      judge: of the outputs.
      batch_sizes: examples tested together; one larger than N is measured as N.
      progress: called after each cell with the number of examples tested.
    """
    orders: dict[Order, Rows] = {
        "stored": np.arange(len(judge.order)),
        "sorted": judge.order,
    }
    sizes = sorted({min(size, len(judge.order)) for size in batch_sizes})
    cells: list[Cell] = []
    for mode, compute in modes.items():
        for size in sizes:
            for order, rows in orders.items():
                if order == "sorted" and size == 1:  # one example has no order
                    cells.append(cells[-1]._replace(order=order))
                    continue
                outputs = compute_all(compute, rows, size)
                cells.append(
                    Cell(mode, order, size, judge.accuracy(outputs), judge.distance(outputs))
                )
                progress(len(rows))
    return cells


def compute_all(compute: Compute, rows: Rows, batch_size: int) -> Array:
    """Computes the outputs of rows 0 to N - 1, given in any order, in batches; [N, ...] by row.

    The last batch holds what is left.
    """
    starts = range(0, len(rows), batch_size)
    outputs = np.concatenate([compute(rows[start : start + batch_size]) for start in starts])
    found = np.empty_like(outputs)
    found[rows] = outputs
    return found


def cell_at(cells: Sequence[Cell], mode: str, batch_size: int, order: Order) -> Cell:
    """Looks up one cell of a sweep.

    Raises:
      KeyError: if it was not measured.
    """
    return {(c.mode, c.batch_size, c.order): c for c in cells}[mode, batch_size, order]


class SideEffects(NamedTuple):
    """The side effects of inference."""

    repeatable: bool  # whether a second run gave the same outputs for every example
    changed_variables: list[str]  # names of the variables that the two runs changed


def side_effects(
    read: Callable[[], Mapping[str, Array]], compute: Compute, rows: Rows, batch_size: int
) -> SideEffects:
    """Runs inference twice, and compares the outputs and the variables that `read` gives."""
    before = read()
    first, second = (compute_all(compute, rows, batch_size) for _ in range(2))
    after = read()
    changed = [
        name for name in before if not np.array_equal(before[name], after[name], equal_nan=True)
    ]
    # Equal but for the last bits: a kernel may share its sums among threads as it likes.
    size = float(np.abs(first).max(initial=0.0))
    same = np.allclose(first, second, rtol=1e-5, atol=1e-6 * size, equal_nan=True)
    return SideEffects(bool(same), changed)


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
