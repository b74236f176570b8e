"""All-reduce and broadcast among the replicas that train together, by TensorFlow's collective ops.

TensorFlow moves the bytes: between devices of a process through memory, between workers over gRPC
(a ring), between GPUs by NCCL.
"""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import tensorflow.compat.v1 as tf

from alexnet_tf1.ops import Ops, Tensor, custom_gradient, normalise_with_moments

_REPLICAS, _WORKERS = 1, 2  # group keys


def meeting(key: int) -> Any:
    """Returns RunOptions of a session call that meets those of the other workers.

    TensorFlow numbers the workers' steps alike for each key.
    """
    return tf.RunOptions(experimental=tf.RunOptions.Experimental(collective_graph_key=key))


class Replica:
    """One copy of the network among those that train together, all on the same weights.

    Every replica builds the same collectives in the same order, so that the n-th of one meets the
    n-th of the others.

    Attributes:
      count: of the replicas.
    """

    def __init__(self, count: int, *, gpu: bool = False) -> None:
        self.count = count
        self._hint = "nccl" if gpu else "auto"
        self._instances = itertools.count(1_000)  # below are those of `from_chief`

    def average(self, value: Tensor) -> Tensor:
        """The mean over the replicas of float32 or float64 values of one shape, on each of them.

        No gradient flows through it.
        """
        key = next(self._instances)
        reduced = _reduce(value, self.count, _REPLICAS, key, "Div", self._hint)
        reduced.set_shape(value.shape)
        return reduced

    def mean(self, value: Tensor) -> Tensor:
        """`average` with its gradient.

        What is minimised is the mean of the replicas' losses. Each of them has its part of
        d(loss)/d(mean), and their mean is what one replica with all images would have.
        """

        @custom_gradient
        def averaged(value: Tensor) -> Any:
            return self.average(value), self.average

        return averaged(value)

    def moments(self, inputs: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Takes mean and variance, as `tf.nn.moments`, over the images of all replicas.

        Means and mean squares are averaged in one all-reduce. The variance is their difference,
        which in float32 would lose digits where the mean is large; in float64 it does not.

        Args:
          inputs: float32 [N, ..., C], N the same on each replica.
          axes: all but the last.

        Returns:
          float32 [C], twice.
        """
        own_mean, own_variance = tf.nn.moments(inputs, axes)
        mean, variance = tf.cast(own_mean, tf.float64), tf.cast(own_variance, tf.float64)
        mean, square = tf.unstack(self.mean(tf.stack([mean, variance + tf.square(mean)])))
        return tf.cast(mean, tf.float32), tf.cast(square - tf.square(mean), tf.float32)

    def synchronised(self, ops: Ops) -> Ops:
        """Returns `ops` with normalisations that use the images of all replicas."""
        normalise = partial(normalise_with_moments, moments=self.moments, batches=self.count)
        return ops._replace(moments=self.moments, normalise_with_batch=normalise)


def average_fused(
    replica: Replica, tensors: Sequence[Tensor], more: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Averages float32 tensors of known shapes, and `more` [M], in one all-reduce."""
    flat = tf.concat([*(tf.reshape(tensor, [-1]) for tensor in tensors), more], 0)
    sizes = [tensor.shape.num_elements() for tensor in tensors]
    *parts, rest = tf.split(replica.average(flat), [*sizes, more.shape.num_elements()])
    return [tf.reshape(p, t.shape) for p, t in zip(parts, tensors, strict=True)], rest


def from_chief(
    values: Sequence[Tensor], workers: int, *, is_chief: bool, first_key: int
) -> list[Tensor]:
    """Broadcasts the chief's tensors, which have the same shapes and types on every worker.

    The instances of the collectives are numbered from `first_key`; these keys are theirs alone.
    """

    def broadcast(value: Tensor, key: int) -> Tensor:
        group = {"group_size": workers, "group_key": _WORKERS, "instance_key": key}
        if is_chief:
            return tf.raw_ops.CollectiveBcastSendV2(input=value, **group)
        return tf.raw_ops.CollectiveBcastRecvV2(T=value.dtype, shape=tf.shape(value), **group)

    return [broadcast(value, key) for key, value in enumerate(values, first_key)]


def barrier(workers: int, key: int) -> Tensor:
    """An op that ends when every worker runs it; float32 []."""
    return _reduce(tf.constant(0.0), workers, _WORKERS, key, "Id")


def _reduce(
    value: Tensor, size: int, group: int, key: int, final_op: str, hint: str = "auto"
) -> Tensor:
    return tf.raw_ops.CollectiveReduceV2(
        input=value,
        group_size=size,
        group_key=group,
        instance_key=key,
        ordering_token=[],
        merge_op="Add",
        final_op=final_op,
        communication_hint=hint,
    )
