"""Finds the variables in which a layer keeps its moving mean and variance."""

from __future__ import annotations

from typing import NamedTuple

from alexnet_tf1.batchnorm.graph.node import Tensor, VariableId
from alexnet_tf1.batchnorm.layers.layer import Layer
from alexnet_tf1.batchnorm.model.prepare import Prepared
from alexnet_tf1.batchnorm.model.source import variable_key


class Kept(NamedTuple):
    """A layer's variables, by the keys of `source.variable_key`; empty where it keeps none."""

    mean: list[str]
    variance: list[str]
    auxiliary: list[str]  # from which others are made: what a zero-debiased average starts from
    is_read: bool  # whether inference normalises with them, and not with its batch


def kept_by(prepared: Prepared, layer: Layer) -> Kept:
    """Finds where a layer keeps its averages: what inference reads, else what training updates."""
    provenance, folding = prepared.provenance, prepared.inference
    means: set[VariableId] = set()
    variances: set[VariableId] = set()
    on_batch = False
    for spot in prepared.found.spots[layer.name]:
        for name, found in ((spot.mean, means), (spot.variance, variances)):
            if name is None:
                on_batch = True
                continue
            node, _, output = name.partition(":")
            tensor = Tensor(provenance.flat.run_nodes(node)[0], int(output))
            made = provenance.sources(tensor, folding)
            on_batch |= bool(made.moments)
            found |= made.variables & {*layer.averages}
    if on_batch or not (means and variances):
        means, variances = _updated(prepared, layer)
    nodes = provenance.nodes

    def keys(variables: set[VariableId]) -> list[str]:
        return [variable_key(nodes[v].definition) for v in sorted(variables)]

    shared = means & variances
    means, variances = means - shared or means, variances - means
    return Kept(keys(means), keys(variances), keys(layer.auxiliary), not on_batch)


def _updated(prepared: Prepared, layer: Layer) -> tuple[set[VariableId], set[VariableId]]:
    """The averages of a layer that inference does not read, by what training writes into them."""
    if layer.mean_variables and layer.variance_variables:
        both = layer.mean_variables & layer.variance_variables
        return layer.mean_variables - both, layer.variance_variables - both
    means: set[VariableId] = set()
    variances: set[VariableId] = set()
    for variable, updates in layer.updates.items():
        moments = [prepared.provenance.moment(m) for u in updates for m in u.moments]
        (variances if any(m.squared for m in moments) else means).add(variable)
    return means, variances
