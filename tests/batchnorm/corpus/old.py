"""Corpus, part 6: what TensorFlow 1.0 and 1.1 wrote otherwise than later ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow.compat.v1 as tf

from corpus.cases import Net, axes_of, case, ema_norm, moments_norm, moving, stored, switch
from corpus.single import Norm, both, network

# ---- gradients whose sums run over BroadcastGradientArgs ---------------------------------------


def _register_gradient(name: str, parts: Callable[..., tuple[Any, Any]]) -> None:
    @tf.RegisterGradient(name)
    def gradient(op: tf.Operation, upstream: tf.Tensor) -> list[tf.Tensor]:
        shapes = [tf.shape(value) for value in op.inputs]
        axes = tf.raw_ops.BroadcastGradientArgs(s0=shapes[0], s1=shapes[1])
        found = parts(*op.inputs, upstream)
        triples = zip(found, axes, shapes, strict=True)
        return [tf.reshape(tf.reduce_sum(part, axis), shape) for part, axis, shape in triples]


_PARTS: dict[str, Callable[..., tuple[Any, Any]]] = {
    "Mul": lambda x, y, up: (up * y, x * up),
    "Add": lambda x, y, up: (up, up),
    "Sub": lambda x, y, up: (up, -up),
    "RealDiv": lambda x, y, up: (up / y, up * (-x / y / y)),
    "SquaredDifference": lambda x, y, up: (2.0 * up * (x - y), -2.0 * up * (x - y)),
}
for _op, _found in _PARTS.items():
    _register_gradient(f"First{_op}", _found)
_GRADIENTS = {op: f"First{op}" for op in _PARTS} | {"AddV2": "FirstAdd"}


def with_first_gradients(norm: Norm, before: Any = None) -> Net:
    """The network of two layers, differentiated as TensorFlow 1.0 did."""
    with tf.get_default_graph().gradient_override_map(_GRADIENTS):
        return network(norm, switch(), before)


def by_shifted_moments(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
    """tf.nn.moments of TensorFlow 1.0, and a batch normalisation written with it."""
    with tf.variable_scope(name):
        kept, axes = stored(int(x.shape[-1])), axes_of(x)
        shift = tf.stop_gradient(tf.reduce_mean(x, axes, keepdims=True))
        shifted = tf.reduce_mean(x - shift, axes, keepdims=True)
        squares = tf.reduce_mean(tf.math.squared_difference(x, shift), axes, keepdims=True)
        mean = tf.squeeze(shifted + shift, axes)
        variance = tf.squeeze(squares - tf.square(shifted), axes)
        for variable, value in ((kept.mean, mean), (kept.variance, variance)):
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, moving(variable, value))
        used = tf.cond(
            training,
            lambda: [tf.identity(mean), tf.identity(variance)],
            lambda: [tf.identity(kept.mean), tf.identity(kept.variance)],
        )
        return tf.nn.batch_normalization(x, *used, kept.beta, kept.gamma, 1e-3)


def _batch_only(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
    """Its variables share no scope: its name comes from its operations."""
    gamma = tf.get_variable(f"scale_of_{name}", [int(x.shape[-1])])
    beta = tf.get_variable(f"offset_of_{name}", [int(x.shape[-1])])
    mean, variance = tf.nn.moments(x, axes_of(x))
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3, name=name)


V1 = ("resource, v1", "ref, v1")


@case("TensorFlow 1.0's gradients: no averages", *both("BN201"), layers=["bn1", "bn2"], styles=V1)
def first_gradients_batch_only() -> Net:
    return with_first_gradients(_batch_only)


@case("TensorFlow 1.0's gradients: right", layers=["bn1", "bn2"], styles=V1)
def first_gradients() -> Net:
    return with_first_gradients(moments_norm)


@case("TensorFlow 1.0's gradients: updates forgotten", *both("BN101"), styles=V1)
def first_gradients_forgotten() -> Net:
    return with_first_gradients(moments_norm, before=[])


@case("TensorFlow 1.0's gradients: EMA under tf.cond", layers=["bn1", "bn2"], styles=V1)
def first_gradients_ema() -> Net:
    return with_first_gradients(ema_norm)


@case("TensorFlow 1.0's moments: right", layers=["bn1", "bn2"], styles=V1)
def first_moments() -> Net:
    return with_first_gradients(by_shifted_moments)


@case("TensorFlow 1.0's moments: updates forgotten", *both("BN101"), styles=V1)
def first_moments_forgotten() -> Net:
    return with_first_gradients(by_shifted_moments, before=[])


# ---- protocol buffers --------------------------------------------------------------------------

_LATER = {"AddV2": "Add", "VariableV2": "Variable", "FusedBatchNormV3": "FusedBatchNorm"}


def as_first_written(meta: Any, *, shapes: bool) -> Any:
    """The MetaGraph as TensorFlow 1.0 and 1.1 would have written it.

    Args:
      meta: a MetaGraphDef; it is changed.
      shapes: whether `_output_shapes` are kept: a Saver writes them, tf.train.write_graph does not.

    Returns:
      The same MetaGraph: no placeholder says its shape, and later operations' names are gone.
    """
    meta.graph_def.versions.producer = 21
    for node in meta.graph_def.node:
        node.op = _LATER.get(node.op, node.op)
        if node.op == "Placeholder":
            node.attr["shape"].shape.Clear()
        if not shapes:
            node.attr.pop("_output_shapes", None)
    return meta
