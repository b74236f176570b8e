"""The ops the network computes with: the original's, unless a caller gives others."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import tensorflow.compat.v1 as tf

Tensor: TypeAlias = Any  # TensorFlow ships no types: a name for the reader, not for mypy
custom_gradient: Callable[[Callable[..., Any]], Callable[..., Tensor]] = tf.custom_gradient


def conv2d(inputs: Tensor, kernel: Tensor) -> Tensor:
    """Convolves with stride 1 and "same" padding: [N, H, W, C], [3, 3, C, D] -> [N, H, W, D]."""
    return tf.nn.conv2d(inputs, kernel, strides=1, padding="SAME")


def normalise_with_batch(
    inputs: Tensor, gamma: Tensor, beta: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalises each channel with the batch, by TensorFlow's fused op.

    Args:
      inputs: float32 [N, H, W, C].
      gamma: float32 [C], the scale.
      beta: float32 [C], the shift.
      epsilon: added to the variance, in the square of the inputs' unit.

    Returns:
      float32 [N, H, W, C]; the batch's mean and its variance divided by NHW - 1, float32 [C].
    """
    outputs, mean, variance = tf.nn.fused_batch_norm(inputs, gamma, beta, epsilon=epsilon)[:3]
    return outputs, mean, variance


def normalise_with_moments(
    inputs: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    moments: Callable[..., tuple[Tensor, Tensor]] = tf.nn.moments,
    batches: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalises as `normalise_with_batch`, in plain ops, and with moments of more than the batch.

    Args:
      inputs: float32 or bfloat16 [N, H, W, C].
      gamma: float32 [C], the scale.
      beta: float32 [C], the shift.
      epsilon: added to the variance, in the square of the inputs' unit.
      moments: gives mean and variance as `tf.nn.moments` does.
      batches: how many batches of N the moments are of.

    Returns:
      [N, H, W, C] of the inputs' type; the mean and the variance times n / (n - 1), with n the
      values that each is of, float32 [C].
    """
    values = tf.cast(inputs, tf.float32)
    mean, variance = moments(values, [0, 1, 2])
    outputs = tf.nn.batch_normalization(values, mean, variance, beta, gamma, epsilon)
    count = tf.cast(tf.size(inputs) // inputs.shape[-1] * batches, tf.float32)
    return tf.cast(outputs, inputs.dtype), mean, variance * (count / (count - 1))


class Ops(NamedTuple):
    """The ops that `layers` and `alexnet` compute with; the defaults are the original's."""

    conv2d: Callable[[Tensor, Tensor], Tensor] = conv2d
    matmul: Callable[[Tensor, Tensor], Tensor] = tf.matmul  # float32 [N, C], [C, D] -> [N, D]
    local_response_normalization: Callable[..., Tensor] = tf.nn.local_response_normalization
    normalise_with_batch: Callable[..., tuple[Tensor, Tensor, Tensor]] = normalise_with_batch
    moments: Callable[..., tuple[Tensor, Tensor]] = tf.nn.moments
    moves_averages: bool = True  # whether a forward pass may update moving averages


ORIGINAL = Ops()
