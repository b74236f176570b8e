"""Puts other statistics in the place of those that inference normalises with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1.batchnorm.model.edit import GraphEdit
from alexnet_tf1.batchnorm.model.prepare import Prepared
from alexnet_tf1.batchnorm.model.renorm import Correction
from alexnet_tf1.batchnorm.model.spots import Spot
from alexnet_tf1.batchnorm.population import Statistics

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Form:
    """The form of what a place normalises, seen when the model was run.

    Attributes:
      axes: of x, those over which mean and variance are taken: all but the channels'.
      mean: shape in which the place takes a mean: [C] or with ones, as [1, 1, 1, C].
      variance: and a variance.
      dtype: of both.
      x_dtype: of x.
    """

    axes: Shape
    mean: Shape
    variance: Shape
    dtype: tf.DType
    x_dtype: tf.DType


@dataclass
class Wired:
    """A changed graph.

    Attributes:
      graph_def: the graph.
      outputs: the model's outputs in it.
      moments: by layer, for each of its places the mean and the variance of x over the batch.
      given: by layer, for each of its places the placeholders of mean and variance, with shapes.
    """

    graph_def: Any
    outputs: list[str]
    moments: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    given: dict[str, list[tuple[tuple[str, Shape], tuple[str, Shape]]]] = field(
        default_factory=dict
    )

    def feed(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        """Gives what is fed so that these layers normalise with these statistics."""
        found = {}
        for layer, values in statistics.items():
            for pair in self.given[layer]:
                for (name, shape), value in zip(pair, values, strict=True):
                    found[name] = np.reshape(value, shape)
        return found


def with_batch_statistics(
    prepared: Prepared, forms: Mapping[Spot, Form], corrections: Mapping[str, Correction]
) -> Wired:
    """The model at inference, with every normalisation on its own batch, as training has it."""
    return _wired(prepared, forms, None, corrections)


def with_given_statistics(prepared: Prepared, forms: Mapping[Spot, Form]) -> Wired:
    """The model at inference, with every normalisation on statistics that are to be fed."""
    return _wired(prepared, forms, {})


def with_constants(
    prepared: Prepared, forms: Mapping[Spot, Form], statistics: Mapping[str, Statistics]
) -> Wired:
    """The model at inference, with every normalisation on these statistics."""
    return _wired(prepared, forms, statistics)


def _wired(
    prepared: Prepared,
    forms: Mapping[Spot, Form],
    statistics: Mapping[str, Statistics] | None,
    corrections: Mapping[str, Correction] | None = None,
) -> Wired:
    """Wires them in the order in which data meets them, so that each x is the changed graph's.

    Args:
      prepared: the model.
      forms: of every place.
      statistics: by layer; empty: placeholders; None: the batch's own.
      corrections: of the batch's own, by layer.
    """
    edit = prepared.edit()
    wired = Wired(None, [])
    spots = [spot for own in prepared.found.spots.values() for spot in own]
    takers = Counter(name for spot in spots for name in {spot.mean, spot.variance} if name)
    for number, spot in enumerate(_in_order(prepared)):
        form, prefix = forms[spot], f"normalisation_{number}"
        moments = edit.graft(
            f"{prefix}/moments",
            _moments(form, (corrections or {}).get(spot.layer)),
            {"x": edit.now(spot.x)},
        )
        wired.moments.setdefault(spot.layer, []).append((moments["mean"], moments["variance"]))
        if statistics is None:
            mean, variance = moments["shaped_mean"], moments["shaped_variance"]
        else:
            held = statistics.get(spot.layer)
            names = edit.graft(f"{prefix}/statistics", _holders(form, held), {})
            mean, variance = names["mean"], names["variance"]
            pair = ((mean, form.mean), (variance, form.variance))
            wired.given.setdefault(spot.layer, []).append(pair)
        if spot.is_fused:
            _replace_kernel(edit, prepared, spot, form, prefix, mean, variance)
            continue
        for tensor, by, only in zip(
            (spot.mean, spot.variance), (mean, variance), spot.takes, strict=True
        ):
            # Two places that read one average have one batch each.
            shared = statistics is None and takers[str(tensor)] > 1
            edit.replace(str(tensor), by, only=only if shared else ())
    fetched = [name for pairs in wired.moments.values() for pair in pairs for name in pair]
    wired.outputs = [edit.now(output) for output in prepared.outputs]
    # What is written on the way to an output has no part in these.
    wired.graph_def = edit.result([*wired.outputs, *fetched])
    return wired


def _in_order(prepared: Prepared) -> list[Spot]:
    order = {node.name: k for k, node in enumerate(prepared.provenance.nodes)}
    place = {node: k for k, node in enumerate(prepared.provenance.order)}
    spots = [spot for own in prepared.found.spots.values() for spot in own]
    return sorted(spots, key=lambda spot: place[prepared.provenance.nodes[order[spot.node]].id])


def _moments(form: Form, correction: Correction | None) -> Callable[[], dict[str, Any]]:
    """The batch's moments, [C] each; and shaped for their place, corrected where they are to be."""
    wide = tf.float64 if form.x_dtype == tf.float64 else tf.float32

    def build() -> dict[str, Any]:
        x = tf.cast(tf.placeholder(form.x_dtype, name="x"), wide)
        plain = [tf.reshape(m, [-1]) for m in tf.nn.moments(x, list(form.axes))]
        mean, variance = plain
        if correction is not None:
            sigma = tf.sqrt(variance + correction.epsilon)
            mean -= tf.constant(correction.d / correction.r, wide) * sigma
            variance = tf.square(sigma / tf.constant(correction.r, wide)) - correction.epsilon
        return {
            "mean": plain[0],
            "variance": plain[1],
            "shaped_mean": tf.cast(tf.reshape(mean, form.mean), form.dtype),
            "shaped_variance": tf.cast(tf.reshape(variance, form.variance), form.dtype),
        }

    return build


def _holders(form: Form, statistics: Statistics | None) -> Callable[[], dict[str, Any]]:
    """Placeholders, or the statistics as constants."""

    def holder(name: str, shape: Shape) -> Any:
        if statistics is None:
            return tf.placeholder(form.dtype, shape, name=name)
        value = np.reshape(getattr(statistics, name), shape)
        return tf.constant(value.astype(form.dtype.as_numpy_dtype), name=name)

    forms = {"mean": form.mean, "variance": form.variance}
    return lambda: {name: holder(name, shape) for name, shape in forms.items()}


def _replace_kernel(
    edit: GraphEdit,
    prepared: Prepared,
    spot: Spot,
    form: Form,
    prefix: str,
    mean: str,
    variance: str,
) -> None:
    """Puts a kernel that takes its statistics from outside in the place of a fused one."""
    nodes = prepared.provenance.nodes
    node = next(n for n in nodes if n.name == spot.node)
    scale, offset = (f"{nodes[t.node].name}:{t.output}" for t in node.inputs[1:3])
    layout = node.attr("data_format")

    def build() -> dict[str, Any]:
        x = tf.placeholder(form.x_dtype, name="x")
        parts = [
            tf.placeholder(form.dtype, name=n) for n in ("scale", "offset", "mean", "variance")
        ]
        kernel = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=parts[0],
            offset=parts[1],
            mean=parts[2],
            variance=parts[3],
            epsilon=spot.epsilon,
            data_format=layout.s.decode() if layout is not None else "NHWC",
            is_training=False,
        )
        return {"y": kernel.y}

    inputs = {
        "x": edit.now(spot.x),
        "scale": edit.now(scale),
        "offset": edit.now(offset),
        "mean": mean,
        "variance": variance,
    }
    edit.replace(f"{spot.node}:0", edit.graft(f"{prefix}/kernel", build, inputs)["y"])
