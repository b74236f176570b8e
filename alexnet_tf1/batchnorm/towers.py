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
    outputs: list[Tensor] = field(default_factory=list)  # what inference computes
    only_trained: list[Tensor] = field(default_factory=list)  # ends of the other networks
    only_training: set[Network] = field(default_factory=set)  # they have no inference tower

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
                self.outputs += chosen
            else:
                self.only_trained += [end.tensor for end in own]
                self.only_training.add(network)
        self.outputs.sort()

    def judged(self) -> list[Layer]:
        """The layers that inference may use: those of networks with an inference tower."""
        return [x for x in self.layers if self.networks.of_layer(x) not in self.only_training]

    def _is_training(self, end: End) -> bool:
        """Tells whether the end is a training tower's.

        Training runs it, its layers normalise with the batch, and no switch changes any of them.
        """
        read = {t.node for t in self.inference.data_cone([end.tensor])}
        on_batch: list[Site] = []
        for layer in self.layers:
            if self.networks.of_layer(layer) not in (end.network, frozenset()):
                continue
            here = [site for site in layer.sites if site.node in read]
            batch = [site for site in here if self._on_batch(site, self.inference)]
            if here and not batch and self._trains_on_batch(layer, end):
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
