"""Batch renormalisation: what training makes of a normalised batch before the weights see it.

With r and d made of the batch's moments and of averages, and constant for the gradient, training
computes y = gamma * (x_hat * r + d) + beta (Ioffe 2017, "Batch Renormalization", arXiv
1702.03275). Where those averages had settled, r is 1 and d is 0. Where nothing updated them, or
clipping cut them off, the weights were trained with other numbers, and inference must give what
training gave: with mean - d * sigma / r instead of mean, and sigma / r instead of sigma.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from alexnet_tf1.batchnorm.graph.ops import SUMS
from alexnet_tf1.batchnorm.layers.layer import Layer, Site
from alexnet_tf1.batchnorm.model.prepare import Prepared
from alexnet_tf1.batchnorm.model.source import Array
from alexnet_tf1.batchnorm.population import Statistics

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.model.trial import Trial

_EXAMPLES = 1_000  # in the one batch that training is imitated with


class Correction(NamedTuple):
    """The r and d of a layer, float64 [C] each, of a batch that stands for the population."""

    r: Array
    d: Array
    epsilon: float

    def applied(self, statistics: Statistics) -> Statistics:
        """The statistics with which inference gives what training gave."""
        sigma = np.sqrt(statistics.variance + self.epsilon)
        return Statistics(
            statistics.mean - self.d * sigma / self.r,
            np.maximum(np.square(sigma / self.r) - self.epsilon, 0.0),
        )


class _Affine(NamedTuple):
    """The tensors of one place: y = a * x + b, made with a mean and a variance."""

    a: str
    b: str
    mean: str
    variance: str


def corrections(trial: Trial) -> dict[str, Correction]:
    """Runs training's normalisations on one batch, and reads r and d off their results.

    Args:
      trial: the model; its examples are the batch.

    Returns:
      By the name of each layer that renormalises.
    """
    prepared = trial.prepared
    in_training, in_inference, epsilons = {}, {}, {}
    for layer in prepared.found.layers:
        site = _renormalising(layer, prepared)
        spot = prepared.found.spots[layer.name][0]
        own = [s for s in layer.sites if prepared.provenance.nodes[s.node].name == spot.node]
        if site is not None and not spot.is_fused:
            training, inference = _affine(site, prepared), _affine(own[0], prepared)
            if training is not None and inference is not None:
                in_training[layer.name], in_inference[layer.name] = training, inference
                epsilons[layer.name] = spot.epsilon
    if not in_training:
        return {}
    trained = _seen(trial, in_training, trial.rows[: prepared.batch_size or _EXAMPLES], True)
    stored = _seen(trial, in_inference, trial.rows[: prepared.batch_size or 2], False)
    found = {}
    for name, epsilon in epsilons.items():
        a, b, mean, variance = trained[name]
        a0, b0, mean0, variance0 = stored[name]
        gamma, beta = a0 * np.sqrt(variance0 + epsilon), b0 + mean0 * a0
        lives = np.abs(gamma) > 1e-12  # of a channel that is multiplied by 0, nothing can be told
        scale = np.where(lives, gamma, 1.0)
        r = np.where(lives, a * np.sqrt(variance + epsilon) / scale, 1.0)
        d = np.where(lives, (b + mean * a - beta) / scale, 0.0)
        found[name] = Correction(r, d, epsilon)
    return found


def _renormalising(layer: Layer, prepared: Prepared) -> Site | None:
    """The place where training scales with the batch's moments and with averages as well."""
    averages = {*layer.averages, *layer.auxiliary}
    for site in layer.sites:
        if prepared.training.runs(site.node) and len(site.variances) > 1:
            made = prepared.provenance.sources(site.variances[1], prepared.training)
            if made.moments & site.moments and made.variables & averages:
                return site
    return None


def _affine(site: Site, prepared: Prepared) -> _Affine | None:
    """The tensors of a place of the form of tf.nn.batch_normalization."""
    provenance = prepared.provenance
    spot = prepared.spots.spot(Layer([site]), site)
    for consumer, at in provenance.flat.consumers[site.node]:
        node = provenance.nodes[consumer]
        if node.op in SUMS and node.op != "Sub" and len(node.inputs) == 2:
            if isinstance(spot, str) or spot.mean is None or spot.variance is None:
                return None
            a, b = prepared.name(site.variances[1]), prepared.name(node.inputs[1 - at])
            return _Affine(a, b, spot.mean, spot.variance)
    return None


def _seen(
    trial: Trial, places: Mapping[str, _Affine], rows: Array, training: bool
) -> dict[str, list[Array]]:
    """The values of the places' tensors, float64 [C] each, on one batch, by layer."""
    edit = trial.prepared.edit(training=training)
    names = [edit.now(tensor) for place in places.values() for tensor in place]
    with trial.copy_of(edit.result(names)) as copy:
        values = [np.asarray(v, np.float64).reshape(-1) for v in copy.run(names, trial.feed(rows))]
    return {name: values[4 * k : 4 * k + 4] for k, name in enumerate(places)}
