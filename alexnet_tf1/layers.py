"""The ops of the tf.layers era on `tf.nn` and `get_variable`, and the hand-written batch_normal.

`tf.compat.v1.layers` left TensorFlow with Keras 3 (2.16). Each function here builds the ops
that the layer of the same name built, under the same variable names, so that outputs,
gradients and checkpoints agree with it bit for bit (tests/test_layers.py compares them).
"""

import zlib
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import tensorflow.compat.v1 as tf

from alexnet_tf1 import norms
from alexnet_tf1.ops import ORIGINAL, Ops, Tensor

Activation: TypeAlias = Callable[[Tensor], Tensor] | None


def conv2d(
    inputs: Tensor,
    filters: int,
    kernel_size: int,
    *,
    activation: Activation = None,
    ops: Ops = ORIGINAL,
    name: str,
) -> Tensor:
    """Convolves with stride 1 and "same" padding, as `tf.layers.conv2d` does.

    Args:
      inputs: float32 or bfloat16 [N, H, W, C], C known.
      filters: number of output channels.
      kernel_size: height and width of the kernel, in pixels.
      activation: applied to the result; None for a linear layer.
      ops: what convolves.
      name: scope of `kernel` [kernel_size, kernel_size, C, filters] and `bias` [filters].

    Returns:
      [N, H, W, filters], of the type that `ops.conv2d` gives; float32 by default.

    Raises:
      ValueError: if C is not known when the graph is built.
    """
    shape = [kernel_size, kernel_size, _channels(inputs, name), filters]
    with tf.variable_scope(name):
        kernel, bias = _kernel(shape), _zeros("bias", filters)
        outputs = ops.conv2d(inputs, tf.convert_to_tensor(kernel))
        outputs = tf.nn.bias_add(outputs, tf.cast(bias, outputs.dtype))
        return activation(outputs) if activation else outputs


def dense(inputs: Tensor, units: int, *, ops: Ops = ORIGINAL, name: str) -> Tensor:
    """Multiplies by a matrix and adds a bias, as `tf.layers.dense` does.

    Args:
      inputs: float32 [N, C], C known.
      units: number of outputs.
      ops: what multiplies.
      name: scope of `kernel` [C, units] and `bias` [units].

    Returns:
      float32 [N, units].

    Raises:
      ValueError: if C is not known when the graph is built.
    """
    with tf.variable_scope(name):
        kernel, bias = _kernel([_channels(inputs, name), units]), _zeros("bias", units)
        return tf.nn.bias_add(ops.matmul(inputs, tf.convert_to_tensor(kernel)), bias)


def max_pooling2d(inputs: Tensor, pool_size: int, strides: int, *, name: str) -> Tensor:
    """Takes the largest value of each window, "valid" padding, as `tf.layers.max_pooling2d`.

    Args:
      inputs: float32 [N, H, W, C].
      pool_size: height and width of the window, in pixels.
      strides: distance between windows, in pixels.
      name: of the op.

    Returns:
      float32 [N, (H - pool_size) // strides + 1, (W - pool_size) // strides + 1, C].
    """
    return tf.nn.max_pool2d(inputs, pool_size, strides, padding="VALID", name=name)


def flatten(inputs: Tensor, *, name: str) -> Tensor:
    """Makes one row of each example, as `tf.layers.flatten` does.

    Args:
      inputs: [N, H, W, C]; H, W and C known.
      name: of the op.

    Returns:
      [N, H * W * C], of the inputs' type.
    """
    _, height, width, channels = inputs.shape.as_list()
    return tf.reshape(inputs, [-1, height * width * channels], name=name)


def batch_normalization(
    inputs: Tensor,
    is_training: Tensor | bool,
    *,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    ops: Ops = ORIGINAL,
    name: str,
) -> Tensor:
    """Normalises each channel, as the fused `tf.layers.batch_normalization` does.

    With the moments of the batch in training, with the moving averages in inference (Ioffe &
    Szegedy 2015, Alg. 1 and 2). The averages move only when somebody runs the two update ops
    that this adds to `tf.GraphKeys.UPDATE_OPS`. As in tf.layers, the variance kept is the fused
    op's unbiased one (divided by NHW - 1), the variance that normalises the biased one.

    Args:
      inputs: float32 [N, H, W, C], C known.
      is_training: bool [] tensor, or a Python bool, which builds the one branch only.
      momentum: weight of the old average, dimensionless, in (0, 1).
      epsilon: added to the variance, in the square of the inputs' unit.
      ops: what normalises with the batch, and whether the averages move.
      name: scope of `gamma`, `beta`, `moving_mean` and `moving_variance`, each [C].

    Returns:
      float32 [N, H, W, C].

    Raises:
      ValueError: if C is not known when the graph is built.
    """
    channels = _channels(inputs, name)
    with tf.variable_scope(name) as scope:
        gamma, beta = _ones("gamma", channels), _zeros("beta", channels)
        moving_mean = _zeros("moving_mean", channels, trainable=False)
        moving_variance = _ones("moving_variance", channels, trainable=False)
        outputs, mean, variance = _cond(
            is_training,
            lambda: ops.normalise_with_batch(inputs, gamma, beta, epsilon),
            lambda: tf.nn.fused_batch_norm(
                inputs, gamma, beta, moving_mean, moving_variance, epsilon, is_training=False
            )[:3],
        )
        if is_training is not False and ops.moves_averages:
            # In inference a momentum of 1 makes the update add nothing, should anyone run it.
            kept = _cond(is_training, lambda: tf.constant(momentum), lambda: tf.constant(1.0))
            decay = 1.0 - kept
            for average, value in ((moving_mean, mean), (moving_variance, variance)):
                with tf.name_scope("AssignMovingAvg"):
                    update = tf.assign_sub(average, (average - value) * decay)
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
    if not scope.reuse:
        norms.record(norms.Norm(scope.name, inputs, moving_mean, moving_variance, momentum))
    return outputs


def batch_normal(
    inputs: Tensor,
    is_training: Tensor | bool,
    *,
    statistics: Literal["batch", "ema"] = "batch",
    decay: float = 0.9,
    epsilon: float = 1e-3,
    ops: Ops = ORIGINAL,
    name: str,
) -> Tensor:
    """Normalises each channel over the batch, as the original's hand-written function does.

    Args:
      inputs: float32 [N, C] or [N, H, W, C], C known.
      is_training: bool [] tensor, or a Python bool; "batch" does not look at it.
      statistics: "batch", as the original: the moments of the current batch normalise, in
        inference too, and every forward pass moves averages that nothing reads. "ema": the
        moments of the batch in training, the moving averages in inference; the averages move
        when the op added to `tf.GraphKeys.UPDATE_OPS` runs.
      decay: weight of the old average, dimensionless, in (0, 1). The averages start at zero;
        with "ema" that bias is divided out (`zero_debias`; Kingma & Ba 2015, section 3).
      epsilon: added to the variance, in the square of the inputs' unit.
      ops: what takes the moments, and whether the averages move.
      name: scope of `scale` and `shift`, each [C], and of the averages.

    Returns:
      float32, the shape of inputs.

    Raises:
      ValueError: if C is not known when the graph is built.
    """
    channels, axes = _channels(inputs, name), list(range(inputs.shape.rank - 1))
    with tf.variable_scope(name) as scope:
        scale, shift = _ones("scale", channels), _zeros("shift", channels)
    # Out of the variable scope, which ExponentialMovingAverage would put in its names twice.
    with tf.name_scope(scope.original_name_scope):
        moments = batch_mean, batch_variance = ops.moments(inputs, axes)
        ema = _exponential_moving_average(scope, decay, statistics == "ema", ops)
        update = ema.apply(list(moments))
        if statistics == "batch":
            # A quirk of the original, kept: no tf.cond on is_training. The averages move on
            # every forward pass, testing included, and are never read: an image's answer
            # depends on the other images of its test batch.
            with tf.control_dependencies([update]):
                mean, variance = tf.identity(batch_mean), tf.identity(batch_variance)
        else:
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
            mean, variance = _cond(
                is_training,
                lambda: tuple(tf.identity(moment) for moment in moments),
                lambda: tuple(tf.identity(ema.average(moment)) for moment in moments),
            )
        outputs = tf.nn.batch_normalization(inputs, mean, variance, shift, scale, epsilon)
    if not scope.reuse:
        averages = ema.average(batch_mean), ema.average(batch_variance)
        norms.record(norms.Norm(scope.name, inputs, *averages, decay))
    return outputs


def _exponential_moving_average(scope: Any, decay: float, zero_debias: bool, ops: Ops) -> Any:
    """The averages of a layer: new ones, or where the layer is built again, those it has."""
    if scope.reuse:
        return norms.SharedAverages(
            scope.name, decay, zero_debias=zero_debias, moves=ops.moves_averages
        )
    return tf.train.ExponentialMovingAverage(decay, zero_debias=zero_debias)


def _cond(pred: Tensor | bool, if_true: Callable[[], Any], if_false: Callable[[], Any]) -> Any:
    """tf.cond, or the one branch where the answer is known while building."""
    if isinstance(pred, bool):
        return if_true() if pred else if_false()
    return tf.cond(pred, if_true, if_false)


def _channels(inputs: Tensor, name: str) -> int:
    channels = inputs.shape[-1]
    if channels is None:
        raise ValueError(
            f"{name}: the last dimension of its inputs {inputs.shape} is not known; "
            "give it with set_shape or reshape"
        )
    return int(channels)


def _zeros(name: str, size: int, *, trainable: bool = True) -> Tensor:
    return tf.get_variable(name, [size], initializer=tf.zeros_initializer(), trainable=trainable)


def _ones(name: str, size: int, *, trainable: bool = True) -> Tensor:
    return tf.get_variable(name, [size], initializer=tf.ones_initializer(), trainable=trainable)


def _kernel(shape: list[int]) -> Tensor:
    """Begins with tf.layers' default, seeded by the graph's seed and the variable's name.

    TensorFlow would take the number of ops built so far instead; with the name, every variant
    of a network starts from the same weights.
    """
    seed = None
    if tf.get_default_graph().seed is not None:
        full_name = f"{tf.get_variable_scope().name}/kernel"
        seed = zlib.crc32(full_name.encode()) & 0x7FFFFFFF
    initializer = tf.glorot_uniform_initializer(seed=seed)
    return tf.get_variable("kernel", shape, initializer=initializer)
