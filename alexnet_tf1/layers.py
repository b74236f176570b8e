"""The ops of the tf.layers era on `tf.nn` and `get_variable`, and the hand-written batch_normal.

`tf.compat.v1.layers` left TensorFlow with Keras 3 (2.16). Each function here builds the ops
that the layer of the same name built, under the same variable names, so that outputs,
gradients and checkpoints agree with it bit for bit (tests/test_layers.py compares them).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import tensorflow.compat.v1 as tf

from alexnet_tf1.distributed.collectives import Replica
from alexnet_tf1.fast.kernels import EXACT, Kernels, Tensor

Activation: TypeAlias = Callable[[Tensor], Tensor] | None

# What a batch normalisation normalises and keeps, one entry a layer, in the order built.
# Kept as graph collections, as UPDATE_OPS is, so that they travel with a MetaGraph.
NORM_NAMES = "batch_norm_names"
NORM_INPUTS = "batch_norm_inputs"
NORM_MOVING_MEANS = "batch_norm_moving_means"
NORM_MOVING_VARIANCES = "batch_norm_moving_variances"
NORM_DECAYS = "batch_norm_decays"


class Norm(NamedTuple):
    """One batch normalisation of the graph.

    Attributes:
      name: the layer's scope, e.g. "batch_normalization_1".
      inputs: float32 [N, C] or [N, H, W, C], what it normalises.
      moving_mean: float32 variable [C].
      moving_variance: float32 variable [C].
      decay: weight of the old average in an update, dimensionless.
    """

    name: str
    inputs: Tensor
    moving_mean: Tensor
    moving_variance: Tensor
    decay: float


def norms(graph: Tensor) -> tuple[Norm, ...]:
    """Returns the batch normalisations built in `graph` by this module, in forward order."""
    keys = (NORM_NAMES, NORM_INPUTS, NORM_MOVING_MEANS, NORM_MOVING_VARIANCES, NORM_DECAYS)
    columns = (graph.get_collection(key) for key in keys)
    return tuple(Norm(*row) for row in zip(*columns, strict=True))


def conv2d(
    inputs: Tensor,
    filters: int,
    kernel_size: int,
    *,
    activation: Activation = None,
    kernels: Kernels = EXACT,
    name: str,
) -> Tensor:
    """Convolves with stride 1 and "same" padding, as `tf.layers.conv2d` does.

    Args:
      inputs: float32 or bfloat16 [N, H, W, C], C known.
      filters: number of output channels.
      kernel_size: height and width of the kernel, in pixels.
      activation: applied to the result; None for a linear layer.
      kernels: what convolves.
      name: scope of `kernel` [kernel_size, kernel_size, C, filters] and `bias` [filters].

    Returns:
      [N, H, W, filters], of the type that `kernels.conv2d` gives; float32 by default.

    Raises:
      ValueError: if C is not known when the graph is built.
    """
    shape = [kernel_size, kernel_size, _channels(inputs, name), filters]
    with tf.variable_scope(name):
        kernel, bias = _kernel(shape), _bias(filters)
        outputs = kernels.conv2d(inputs, tf.convert_to_tensor(kernel))
        outputs = tf.nn.bias_add(outputs, tf.cast(bias, outputs.dtype))
        return activation(outputs) if activation else outputs


def dense(
    inputs: Tensor,
    units: int,
    *,
    activation: Activation = None,
    kernels: Kernels = EXACT,
    name: str,
) -> Tensor:
    """Multiplies by a matrix and adds a bias, as `tf.layers.dense` does.

    Args:
      inputs: float32 [N, C], C known.
      units: number of outputs.
      activation: applied to the result; None for a linear layer.
      kernels: what multiplies.
      name: scope of `kernel` [C, units] and `bias` [units].

    Returns:
      float32 [N, units].

    Raises:
      ValueError: if C is not known when the graph is built.
    """
    with tf.variable_scope(name):
        kernel, bias = _kernel([_channels(inputs, name), units]), _bias(units)
        outputs = tf.nn.bias_add(kernels.matmul(inputs, tf.convert_to_tensor(kernel)), bias)
        return activation(outputs) if activation else outputs


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
    replica: Replica | None = None,
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
      replica: which copy of the network in training this is, if there are others.
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
        if replica and replica.synchronised:
            outputs, mean, variance = _normalise_together(inputs, gamma, beta, epsilon, replica)
        else:
            outputs, mean, variance = _cond(
                is_training,
                lambda: tf.nn.fused_batch_norm(inputs, gamma, beta, epsilon=epsilon)[:3],
                lambda: tf.nn.fused_batch_norm(
                    inputs, gamma, beta, moving_mean, moving_variance, epsilon, is_training=False
                )[:3],
            )
        if is_training is not False and (replica is None or replica.moves_averages):
            # In inference a momentum of 1 makes the update add nothing, should anyone run it.
            decay = 1.0 - _cond(
                is_training, lambda: tf.constant(momentum), lambda: tf.constant(1.0)
            )
            for average, value in ((moving_mean, mean), (moving_variance, variance)):
                with tf.name_scope("AssignMovingAvg"):
                    update = tf.assign_sub(average, (average - value) * decay)
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
    if not scope.reuse:
        _record(scope.name, inputs, moving_mean, moving_variance, momentum)
    return outputs


def _normalise_together(
    inputs: Tensor, gamma: Tensor, beta: Tensor, epsilon: float, replica: Replica
) -> tuple[Tensor, Tensor, Tensor]:
    """fused_batch_norm in training, with the moments of all replicas' images: N of each, H, W."""
    values = tf.cast(inputs, tf.float32)
    mean, variance = replica.moments(values, [0, 1, 2])
    outputs = tf.nn.batch_normalization(values, mean, variance, beta, gamma, epsilon)
    count = tf.cast(tf.size(inputs) // inputs.shape[-1] * replica.count, tf.float32)
    return tf.cast(outputs, inputs.dtype), mean, variance * (count / (count - 1))


def batch_normal(
    inputs: Tensor,
    is_training: Tensor | bool,
    *,
    statistics: Literal["batch", "ema"] = "batch",
    decay: float = 0.9,
    epsilon: float = 1e-3,
    replica: Replica | None = None,
    name: str,
) -> Tensor:
    """The original's hand-written normalisation of each channel over the batch.

    Args:
      inputs: float32 [N, C] or [N, H, W, C], C known.
      is_training: bool [] tensor, or a Python bool; "batch" does not look at it.
      statistics: "batch", as the original: the moments of the current batch normalise, in
        inference too, and every forward pass moves averages that nothing reads. "ema": the
        moments of the batch in training, the moving averages in inference; the averages move
        when the ops added to `tf.GraphKeys.UPDATE_OPS` run.
      decay: weight of the old average, dimensionless, in (0, 1). The averages start at zero;
        with "ema" that bias is divided out (`zero_debias`; Kingma & Ba 2015, section 3).
      epsilon: added to the variance, in the square of the inputs' unit.
      replica: which copy of the network in training this is, if there are others.
      name: scope of `scale` and `shift`, each [C], and of the averages.

    Returns:
      float32, the shape of inputs.

    Raises:
      ValueError: if C is not known when the graph is built.
    """
    channels = _channels(inputs, name)
    with tf.variable_scope(name) as scope:
        scale, shift = _ones("scale", channels), _zeros("shift", channels)
    # Out of the variable scope, which ExponentialMovingAverage would put in its names twice.
    with tf.name_scope(scope.original_name_scope):
        moments = replica.moments if replica else tf.nn.moments
        batch_mean, batch_variance = moments(inputs, list(range(inputs.shape.rank - 1)))
        if replica and not replica.moves_averages:
            moving_mean, moving_variance = _recorded_averages(scope.name)
            update = tf.no_op()
        elif scope.reuse:
            moving_mean, moving_variance = _recorded_averages(scope.name)
            update = tf.group(
                _move(moving_mean, batch_mean, decay, zero_debias=statistics == "ema"),
                _move(moving_variance, batch_variance, decay, zero_debias=statistics == "ema"),
            )
        else:
            ema = tf.train.ExponentialMovingAverage(decay, zero_debias=statistics == "ema")
            update = ema.apply([batch_mean, batch_variance])
            moving_mean, moving_variance = ema.average(batch_mean), ema.average(batch_variance)
        if statistics == "batch":
            # A quirk of the original, kept: no tf.cond on is_training. The averages move on
            # every forward pass, testing included, and are never read; an image is judged by
            # the company it is tested in.
            with tf.control_dependencies([update]):
                mean, variance = tf.identity(batch_mean), tf.identity(batch_variance)
        else:
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
            mean, variance = _cond(
                is_training,
                lambda: (tf.identity(batch_mean), tf.identity(batch_variance)),
                lambda: (tf.identity(moving_mean), tf.identity(moving_variance)),
            )
        outputs = tf.nn.batch_normalization(inputs, mean, variance, shift, scale, epsilon)
    if not scope.reuse:
        _record(scope.name, inputs, moving_mean, moving_variance, decay)
    return outputs


def _recorded_averages(name: str) -> tuple[Tensor, Tensor]:
    """The averages that the first forward pass made for a layer that is built once more.

    ExponentialMovingAverage cannot share variables, so a second pass looks them up; it may be
    built in the body of a loop, whose graph lies within the one that has them.
    """
    graph = tf.get_default_graph()
    while getattr(graph, "outer_graph", None) is not None:
        graph = graph.outer_graph
    (norm,) = (norm for norm in norms(graph) if norm.name == name)
    return norm.moving_mean, norm.moving_variance


def _move(average: Tensor, value: Tensor, decay: float, *, zero_debias: bool) -> Tensor:
    """What ExponentialMovingAverage.apply does to an average that is already there."""
    if not zero_debias:
        return tf.assign_sub(average, (average - value) * (1 - decay))
    with tf.variable_scope(average.op.name, reuse=True):
        biased = tf.get_variable("biased", average.shape)
        updates = tf.get_variable("local_step", [])
    moved = tf.assign_sub(biased, (biased - value) * (1 - decay))
    return tf.assign(average, moved / (1 - tf.pow(decay, tf.assign_add(updates, 1.0))))


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


def _kernel(shape: list[int]) -> Tensor:
    return tf.get_variable("kernel", shape, initializer=_glorot_uniform("kernel"))


def _bias(size: int) -> Tensor:
    return _zeros("bias", size)


def _zeros(name: str, size: int, *, trainable: bool = True) -> Tensor:
    return tf.get_variable(name, [size], initializer=tf.zeros_initializer(), trainable=trainable)


def _ones(name: str, size: int, *, trainable: bool = True) -> Tensor:
    return tf.get_variable(name, [size], initializer=tf.ones_initializer(), trainable=trainable)


def _glorot_uniform(variable: str) -> Tensor:
    """tf.layers' default initialiser, seeded by the graph's seed and the variable's name.

    TensorFlow would take the number of ops built so far instead; with the name, every variant
    of a network starts from the same weights.
    """
    if tf.get_default_graph().seed is None:
        return tf.glorot_uniform_initializer()
    full_name = f"{tf.get_variable_scope().name}/{variable}"
    return tf.glorot_uniform_initializer(seed=zlib.crc32(full_name.encode()) & 0x7FFFFFFF)


def _record(
    name: str, inputs: Tensor, moving_mean: Tensor, moving_variance: Tensor, decay: float
) -> None:
    tf.add_to_collection(NORM_NAMES, name)
    tf.add_to_collection(NORM_INPUTS, inputs)
    tf.add_to_collection(NORM_MOVING_MEANS, moving_mean)
    tf.add_to_collection(NORM_MOVING_VARIANCES, moving_variance)
    tf.add_to_collection(NORM_DECAYS, decay)
