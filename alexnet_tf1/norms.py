"""The record of a graph's batch normalisations, and the averages of a layer that is built again."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from alexnet_tf1.ops import Tensor

# Kept as graph collections, as UPDATE_OPS is, so that they travel with a MetaGraph: one entry a
# layer in each, in the order built.
_COLUMNS = (
    "batch_norm_names",
    "batch_norm_inputs",
    "batch_norm_moving_means",
    "batch_norm_moving_variances",
    "batch_norm_decays",
)


class Norm(NamedTuple):
    """One batch normalisation of the graph."""

    name: str  # the layer's scope, e.g. "batch_normalization_1"
    inputs: Tensor  # float32 [N, C] or [N, H, W, C], what it normalises
    moving_mean: Tensor  # float32 variable [C]
    moving_variance: Tensor  # float32 variable [C]
    decay: float  # weight of the old average in an update, dimensionless


def record(norm: Norm) -> None:
    """Adds a layer to the record of the current graph."""
    for column, value in zip(_COLUMNS, norm, strict=True):
        tf.add_to_collection(column, value)


def recorded(graph: Tensor) -> tuple[Norm, ...]:
    """Returns the batch normalisations built in `graph` by `layers`, in forward order."""
    columns = (graph.get_collection(column) for column in _COLUMNS)
    return tuple(Norm(*row) for row in zip(*columns, strict=True))


class SharedAverages:
    """Stands in for tf.train.ExponentialMovingAverage where a layer is built again.

    ExponentialMovingAverage makes its variables anew and cannot share them, so a second forward
    pass on the same weights looks up those of the first. It may be built in the body of a loop,
    whose graph lies within the one that has them.
    """

    def __init__(self, name: str, decay: float, *, zero_debias: bool, moves: bool) -> None:
        """Finds the averages of the layer whose scope is `name`.

        With `zero_debias` the bias towards the initial zero is divided out; unless it `moves`
        them, the op of `apply` does nothing. `decay` is the weight of the old average.
        """
        graph = tf.get_default_graph()
        while outer := getattr(graph, "outer_graph", None):
            graph = outer
        (norm,) = (norm for norm in recorded(graph) if norm.name == name)
        self._averages = (norm.moving_mean, norm.moving_variance)
        self._decay = decay
        self._zero_debias = zero_debias
        self._moves = moves
        self._average_of: dict[int, Tensor] = {}

    def apply(self, moments: Sequence[Tensor]) -> Tensor:
        """Builds the op that moves the averages towards a mean and a variance, float32 [C]."""
        pairs = list(zip(self._averages, moments, strict=True))
        self._average_of = {id(moment): average for average, moment in pairs}
        return tf.group(*(self._move(*pair) for pair in pairs if self._moves))

    def average(self, moment: Tensor) -> Tensor:
        """Returns the variable that holds the average of a tensor given to `apply`."""
        return self._average_of[id(moment)]

    def _move(self, average: Tensor, moment: Tensor) -> Tensor:
        if not self._zero_debias:
            return tf.assign_sub(average, (average - moment) * (1 - self._decay))
        with tf.variable_scope(average.op.name, reuse=True):
            biased = tf.get_variable("biased", average.shape)
            updates = tf.get_variable("local_step", [])
        moved = tf.assign_sub(biased, (biased - moment) * (1 - self._decay))
        return tf.assign(average, moved / (1 - tf.pow(self._decay, tf.assign_add(updates, 1.0))))
