"""Reads the graph beside a checkpoint: which of its variables are averages, and how they decay."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from alexnet_tf1.batchnorm.checkpoint.names import LayerVariables, Role, Statistic
from alexnet_tf1.batchnorm.choices import Choices
from alexnet_tf1.batchnorm.entry_points import trainable_ids
from alexnet_tf1.batchnorm.graph import load
from alexnet_tf1.batchnorm.graph.flatten import FlatGraph
from alexnet_tf1.batchnorm.graph.fold import Folding
from alexnet_tf1.batchnorm.graph.followers import Followers
from alexnet_tf1.batchnorm.graph.node import VariableId
from alexnet_tf1.batchnorm.layers.grouping import find_layers
from alexnet_tf1.batchnorm.layers.layer import Layer
from alexnet_tf1.batchnorm.layers.provenance import Provenance
from alexnet_tf1.batchnorm.layers.savers import saved_variables
from alexnet_tf1.errors import UserError


class Beside(NamedTuple):
    """The graph's word on the checkpoint's variables, by their names in the checkpoint."""

    layers: list[LayerVariables]  # those that keep averages
    variables: set[str]  # all that the graph has
    decays: dict[str, float]  # of the old average, the share that one training step keeps
    # layers whose averages nothing in the graph updates, and whether they ever use their batch
    without_update: dict[str, bool]


def read(prefix: str, saved: Mapping[str, object]) -> Beside | None:
    """Reads the .meta file beside a checkpoint.

    Args:
      prefix: the checkpoint's.
      saved: its variables, by name.

    Returns:
      None if there is no such file.

    Raises:
      UserError: if it holds no graph.
    """
    if not os.path.isfile(f"{prefix}.meta"):
        return None
    source = load.from_file(f"{prefix}.meta")
    provenance = Provenance(FlatGraph(source.graph_def, source.op_defs))
    found = find_layers(provenance, trainable_ids(source, provenance.variables))
    choices = Choices(source, provenance, found, Followers(provenance.flat))
    try:
        training = choices.folded(choices.switches(None), training=True)
    except UserError:  # several switches: what depends on one of them stays unknown
        training = choices.folded([], training=True)
    keys = dict(provenance.variables.names)
    keys |= {variable: name for name, variable in saved_variables(provenance).items()}
    layers = [layer for layer in found if layer.averages]
    return Beside(
        layers=[_described(layer, keys, saved, provenance) for layer in layers],
        variables=set(keys.values()),
        decays=_decays(layers, keys, training, provenance),
        without_update={layer.name: bool(layer.moments) for layer in layers if not layer.updates},
    )


def _described(
    layer: Layer,
    keys: Mapping[VariableId, str],
    saved: Mapping[str, object],
    provenance: Provenance,
) -> LayerVariables:
    """The layer as `names.layers` would have found it by its names."""
    affine = [keys[v] for v in sorted(layer.affine) if keys[v] in saved]
    described = LayerVariables(layer.name, affine)
    for variable in layer.averages:
        if keys[variable] in saved:
            role = _role(variable, layer, provenance)
            described.statistics.append(Statistic(keys[variable], role, None, False, ()))
        else:
            described.unsaved.append(keys[variable])
    described.statistics.sort(key=lambda found: found.role)
    return described


def _role(variable: VariableId, layer: Layer, provenance: Provenance) -> Role:
    if variable in layer.mean_variables:
        return "mean"
    moments = (m for update in layer.updates.get(variable, ()) for m in update.moments)
    is_variance = variable in layer.variance_variables
    return (
        "variance" if is_variance or any(provenance.moment(m).squared for m in moments) else "mean"
    )


def _decays(
    layers: list[Layer],
    keys: Mapping[VariableId, str],
    training: Folding,
    provenance: Provenance,
) -> dict[str, float]:
    """By average, what all updates of one step together keep; only where that is certain."""
    found: dict[str, float] = {}
    for layer in layers:
        for variable, updates in layer.updates.items():
            writes = [u.write for u in updates]
            kept = [provenance.variables.kept(write, training) for write in writes]
            if all(share is not None for share in kept):
                found[keys[variable]] = 1.0
                for share in kept:
                    found[keys[variable]] *= share or 0.0
    return found
