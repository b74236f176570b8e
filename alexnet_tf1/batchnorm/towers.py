"""Decides which ends of a graph's networks inference computes: those of no training tower."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from alexnet_tf1.batchnorm.graph.fold import Folding
from alexnet_tf1.batchnorm.graph.node import NodeId, Tensor
from alexnet_tf1.batchnorm.layers.layer import Layer, Site
from alexnet_tf1.batchnorm.layers.provenance import Provenance
from alexnet_tf1.batchnorm.layers.sites import uses_batch
from alexnet_tf1.batchnorm.networks import End, Network, Networks


@dataclass
class Towers:
    """The two kinds of towers in one graph."""

    provenance: Provenance
    networks: Networks
    layers: list[Layer]
    training: Folding
    inference: Folding
    trained: set[NodeId]  # what training runs
    switches: set[NodeId]  # inputs that decide on a branch, or might
    idle_switch: bool  # one of them was made and decides nothing
    # by network, what inference computes; and the ends of those without an inference tower
    outputs: dict[Network, list[Tensor]] = field(default_factory=dict)
    only_training: dict[Network, list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._at = {site.node: k for k, layer in enumerate(self.layers) for site in layer.sites}

    def sort(self, ends: Iterable[End]) -> None:
        """Sorts the ends into outputs and those of networks that only train here."""
        by_network: dict[Network, list[End]] = {}
        for end in ends:
            by_network.setdefault(end.network, []).append(end)
        for network, own in by_network.items():
            chosen = [end.tensor for end in own if not self._is_training(end)]
            if not chosen and all(self._has_switch(end) for end in own):
                chosen = [end.tensor for end in own]  # one tower for both, whatever its layers do
            if chosen:
                self.outputs[network] = chosen
            else:
                self.only_training[network] = [end.tensor for end in own]

    def judged(self) -> dict[str, list[Tensor]]:
        """Outputs to judge each layer by, its own network's first; none of one that only trains.

        Another network's output may lie behind a training tower of the layer.
        """
        everything = sorted(t for tensors in self.outputs.values() for t in tensors)
        found = {}
        for layer in self.layers:
            network = self.networks.of_layer(layer)
            if network not in self.only_training:
                found[layer.name] = self.outputs.get(network, everything)
        return found

    def _is_training(self, end: End) -> bool:
        """Tells whether the end is a training tower's.

        Training runs it, its layers normalise with the batch, and no switch changes any of them.
        """
        read = {t.node for t in self.inference.data_cone([end.tensor])}
        met = [self.layers[k] for k in sorted({self._at[n] for n in read if n in self._at})]
        own = [x for x in met if self.networks.of_layer(x) in (end.network, frozenset())]
        on_batch: list[Site] = []
        for layer in own or met:  # a network without layers trains where those before it do
            here = [site for site in layer.sites if site.node in read]
            batch = [site for site in here if self._on_batch(site, self.inference)]
            if not batch and self._trains_on_batch(layer, end):
                return False
            on_batch += batch
        return bool(on_batch) and all(site.node in self.trained for site in on_batch)

    def _trains_on_batch(self, layer: Layer, end: End) -> bool:
        in_training = {t.node for t in self.training.data_cone([end.tensor])}
        return any(
            site.node in in_training and self._on_batch(site, self.training) for site in layer.sites
        )

    def _on_batch(self, site: Site, folding: Folding) -> bool:
        return uses_batch(site, folding, self.provenance)

    def _has_switch(self, end: End) -> bool:
        upstream = self.provenance.plain.executed([end.tensor.node])
        return self.idle_switch or bool(upstream & self.switches)
