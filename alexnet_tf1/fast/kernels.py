"""Faster ops for `--fast` and `--precision`: the same mathematics with other rounding.

docs/performance.md has what each of them gains.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1.config import TrainConfig
from alexnet_tf1.ops import ORIGINAL, Ops, Tensor, conv2d, custom_gradient
from alexnet_tf1.system import hardware


def ops_for(config: TrainConfig) -> Ops:
    """Picks the ops that a run's settings ask for, on this machine."""
    return choose(fast=config.fast, bfloat16=config.precision == "bfloat16", gpu=hardware.has_gpu())


def choose(*, fast: bool, bfloat16: bool, gpu: bool) -> Ops:
    """Picks the ops for a run; the original's where nothing is asked for.

    Args:
      fast: whether ops that round differently from the original's may be used.
      bfloat16: whether the convolutions multiply in bfloat16.
      gpu: whether the step runs on a GPU, where TensorFlow's own gradients are the right ones.
    """
    ops = ORIGINAL
    if fast:
        ops = ops._replace(matmul=matmul, local_response_normalization=local_response_normalization)
    if bfloat16:
        convolve = conv2d if gpu or not fast else conv2d_with_gradient_as_convolution
        ops = ops._replace(conv2d=lambda x, kernel: in_bfloat16(convolve, x, kernel))
    if bfloat16 and not fast:  # TensorFlow's own has no bfloat16 form
        normalise = tf.nn.local_response_normalization
        ops = ops._replace(
            local_response_normalization=lambda x, **k: normalise(tf.cast(x, tf.float32), **k)
        )
    return ops


def in_bfloat16(convolve: Callable[[Tensor, Tensor], Tensor], x: Tensor, kernel: Tensor) -> Tensor:
    """Convolves in bfloat16 (8 bits of mantissa) with sums in float32 inside the op.

    The kernel is a float32 variable and stays one: it is rounded for each step, and its gradient
    comes back in float32.

    Args:
      convolve: the convolution.
      x: float32 or bfloat16 [N, H, W, C].
      kernel: float32 [3, 3, C, D].

    Returns:
      bfloat16 [N, H, W, D].
    """
    return convolve(tf.cast(x, tf.bfloat16), tf.cast(kernel, tf.bfloat16))


@custom_gradient
def conv2d_with_gradient_as_convolution(inputs: Tensor, kernel: Tensor) -> Any:
    """`conv2d` whose kernel gradient is a forward convolution, for a CPU in bfloat16.

    dkernel[i, j, c, d] = sum over n, y, x of inputs[n, y+i-1, x+j-1, c] * doutputs[n, y, x, d]
    is a convolution of images [C, H, W, N] with a kernel [H, W, N, D]. For bfloat16 oneDNN's
    forward convolution is up to 1.7 times as fast as its kernel gradient, where the image is
    small (8 x 8): docs/performance.md. Larger ones keep TensorFlow's gradient.
    bfloat16 [N, H, W, C], [3, 3, C, D] -> [N, H, W, D].
    """

    def gradient(doutputs: Tensor) -> tuple[Tensor, Tensor]:
        same = {"strides": [1, 1, 1, 1], "padding": "SAME"}
        dinputs = tf.nn.conv2d_backprop_input(tf.shape(inputs), kernel, doutputs, **same)
        if inputs.shape[1] > 8:
            return dinputs, tf.nn.conv2d_backprop_filter(inputs, kernel.shape, doutputs, **same)
        images = tf.transpose(inputs, [3, 1, 2, 0])  # [C, H, W, N]
        images = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
        window = tf.transpose(doutputs, [1, 2, 0, 3])  # [H, W, N, D]
        dkernel = tf.nn.conv2d(images, window, strides=1, padding="VALID")  # [C, 3, 3, D]
        return dinputs, tf.transpose(dkernel, [1, 2, 0, 3])

    return conv2d(inputs, kernel), gradient


@custom_gradient
def matmul(inputs: Tensor, kernel: Tensor) -> Any:
    """`tf.matmul` whose gradient of the inputs is a batched product of one.

    For 20 rows oneDNN's product with a transposed right side takes 5 times as long as the same
    product as a batch of one (docs/performance.md). float32 [N, C], [C, D] -> [N, D].
    """

    def gradient(doutputs: Tensor) -> tuple[Tensor, Tensor]:
        dinputs = tf.matmul(doutputs[tf.newaxis], kernel[tf.newaxis], transpose_b=True)
        return tf.squeeze(dinputs, 0), tf.matmul(inputs, doutputs, transpose_a=True)

    return tf.matmul(inputs, kernel), gradient


def local_response_normalization(
    inputs: Tensor, *, depth_radius: int, bias: float, alpha: float, beta: float, name: str
) -> Tensor:
    """`tf.nn.local_response_normalization` as products with a banded matrix.

    s = bias + alpha * (sum of inputs**2 over channels within depth_radius), outputs =
    inputs * s**-beta. The sum is a product with a matrix that is 1 near the diagonal, and so is
    the one in the gradient; TensorFlow's own op walks the channels one at a time.

    Args:
      inputs: float32 or bfloat16 [N, H, W, C], C known.
      depth_radius: channels on either side.
      bias: dimensionless, positive.
      alpha: dimensionless.
      beta: 0.75, whose power is two square roots.
      name: of the op.

    Returns:
      [N, H, W, C], of the inputs' type, in which all of it is computed.

    Raises:
      ValueError: if beta is not 0.75.
    """
    if beta != 0.75:
        raise ValueError(f"beta={beta} is not 0.75; use tf.nn.local_response_normalization")
    channels, dtype = int(inputs.shape[-1]), inputs.dtype
    near = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels))) <= depth_radius
    band = tf.constant(alpha * near, dtype)
    gradient_band = tf.constant(2 * beta * alpha * near, dtype)

    @custom_gradient
    def normalise(rows: Tensor) -> Any:
        biases = tf.fill([channels], tf.constant(bias, dtype))
        scale = tf.nn.bias_add(tf.matmul(tf.square(rows), band), biases)
        root = tf.rsqrt(scale)
        power = root * tf.sqrt(root)  # scale ** -0.75

        def gradient(doutputs: Tensor) -> Tensor:
            direct = doutputs * power
            return direct - rows * tf.matmul(direct * (rows / scale), gradient_band)

        return rows * power, gradient

    with tf.name_scope(name):
        rows = tf.reshape(inputs, [-1, channels])
        return tf.reshape(normalise(rows), tf.shape(inputs))
