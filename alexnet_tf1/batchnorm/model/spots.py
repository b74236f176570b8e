"""Finds where a normalisation takes its mean and its variance, so that others can be put there."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from alexnet_tf1.batchnorm.graph.fold import Folding
from alexnet_tf1.batchnorm.graph.node import Node, NodeId, Tensor
from alexnet_tf1.batchnorm.graph.ops import (
    IDENTITIES,
    LINEAR,
    PASSED,
    SUMS,
    fused_is_training,
    is_fused,
)
from alexnet_tf1.batchnorm.layers.layer import Layer, Site
from alexnet_tf1.batchnorm.layers.provenance import Provenance

_EPSILON = 1e-3  # of tf.layers and of Keras, where the graph tells none
_BEFORE = 12  # operations between a statistic and what it normalises


@dataclass(frozen=True)
class Spot:
    """One place where inference normalises.

    Attributes:
      layer: the layer's name.
      node: the operation that scales x, or the fused kernel.
      x: the tensor that is normalised.
      mean: the tensor that is subtracted as its mean; None in a fused kernel on the batch.
      variance: the tensor whose square root, with epsilon, it is divided by.
      takes: the inputs of nodes by which this place alone takes the two: mean's, variance's.
      is_fused: whether one kernel does it all.
      channel: where a fused kernel has its channels: -1 or 1.
      epsilon: what is added to the variance.
    """

    layer: str
    node: str
    x: str
    mean: str | None
    variance: str | None
    takes: tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]] = ((), ())
    is_fused: bool = False
    channel: int = -1
    epsilon: float = _EPSILON


@dataclass(frozen=True)
class Found:
    """The normalisations on the way to some outputs.

    Attributes:
      layers: those with a place there, in the order in which data meets them.
      spots: the places of each, by the layer's name.
      left: by the name of a layer that has to stay as it is, the reason.
    """

    layers: list[Layer]
    spots: dict[str, list[Spot]]
    left: dict[str, str]


class Spots:
    """Looks for the places in one graph that inference passes through."""

    def __init__(
        self,
        provenance: Provenance,
        inference: Folding,
        layers: list[Layer],
        loops: Container[NodeId],
    ) -> None:
        """Takes the graph, the same at inference, its layers, and the nodes in its loops."""
        self._provenance, self._inference = provenance, inference
        self._nodes = provenance.nodes
        self._layers = layers
        self._loops = loops

    def before(self, outputs: Iterable[Tensor]) -> Found:
        """Finds the places that these outputs depend on."""
        read = {tensor.node for tensor in self._inference.data_cone(outputs)}
        place = {node: k for k, node in enumerate(self._provenance.order)}
        live = {
            layer.name: [s for s in layer.sites if s.node in read and self._runs(s)]
            for layer in self._layers
        }
        met = [layer for layer in self._layers if live[layer.name]]
        met.sort(key=lambda layer: min(place[site.node] for site in live[layer.name]))
        spots, left = {}, {}
        for layer in met:
            found = [self.spot(layer, site) for site in live[layer.name]]
            reasons = [spot for spot in found if isinstance(spot, str)]
            if reasons:
                left[layer.name] = reasons[0]
            else:
                spots[layer.name] = [spot for spot in found if isinstance(spot, Spot)]
        return Found([layer for layer in met if layer.name in spots], spots, left)

    def _runs(self, site: Site) -> bool:
        return self._inference.runs(site.node)

    def spot(self, layer: Layer, site: Site) -> Spot | str:
        """The place, or the reason why nothing else can be put there."""
        node = self._nodes[site.node]
        if site.node in self._loops:
            return "it lies in a loop"
        if is_fused(node.op):
            return self._fused(layer, node)
        if node.op == "BatchNormWithGlobalNormalization":
            x, mean, variance = (self._name(tensor) for tensor in node.inputs[:3])
            return Spot(
                layer.name,
                node.name,
                x,
                mean,
                variance,
                takes=(((node.name, 1),), ((node.name, 2),)),
                epsilon=_attribute(node, "variance_epsilon"),
            )
        if node.op in LINEAR and self._nodes[site.base.node].op != node.op:
            return "it is folded into weights, and what they alone would make is not computed"
        under, epsilon = self._variance(site)
        subtracted = self._mean(site)
        if subtracted is None:
            return "what it subtracts as the mean was not found"
        data = site.base if node.op in LINEAR else self._x(node, site, subtracted)
        return Spot(
            layer.name,
            node.name,
            self._name(data),
            self._name(subtracted),
            self._name(under),
            takes=(self._taken(subtracted, site), self._taken(under, site)),
            epsilon=epsilon,
        )

    def _fused(self, layer: Layer, node: Node) -> Spot:
        stored = not fused_is_training(node)
        layout = node.attr("data_format")
        first = layout is not None and layout.s.startswith(b"NC")
        return Spot(
            layer.name,
            node.name,
            self._name(node.inputs[0]),
            self._name(node.inputs[3]) if stored else None,
            self._name(node.inputs[4]) if stored else None,
            is_fused=True,
            channel=1 if first else -1,
            epsilon=_attribute(node, "epsilon"),
        )

    def _name(self, tensor: Tensor) -> str:
        return f"{self._nodes[tensor.node].name}:{tensor.output}"

    def _variance(self, site: Site) -> tuple[Tensor, float]:
        """Finds what stands under the square root, and the constant that is added to it there."""
        tensor = self._through(site.variances[0])
        node = self._nodes[tensor.node]
        if node.op in SUMS and node.op != "Sub" and len(node.inputs) == 2:
            for tensor_is, constant in (node.inputs, node.inputs[::-1]):
                value = self._provenance.plain_constant(constant)
                if isinstance(value, float):
                    return tensor_is, value
        return tensor, 0.0

    def _mean(self, site: Site) -> Tensor | None:
        for tensor in site.means:
            made = self._provenance.sources(tensor, self._inference)
            if made.moments or made.variables - site.affine:
                inner = self._nodes[self._through(tensor).node]
                return inner.inputs[0] if inner.op == "Neg" else tensor
        return None

    def _through(self, tensor: Tensor) -> Tensor:
        """The tensor under other names for it."""
        for _ in range(_BEFORE):
            node = self._nodes[tensor.node]
            if node.op not in IDENTITIES or len(node.inputs) != 1:
                break
            tensor = node.inputs[0]
        return tensor

    def _x(self, node: Node, site: Site, mean: Tensor) -> Tensor:
        """Finds the input of the product, before the mean is subtracted."""
        scale = site.variances[1]
        x = next((tensor for tensor in node.inputs if tensor != scale), node.inputs[0])
        centred = self._nodes[self._through(x).node]
        if centred.op in SUMS and len(centred.inputs) == 2:
            for data, other in (centred.inputs, centred.inputs[::-1]):
                under = self._nodes[self._through(other).node]
                if other == mean or (under.op == "Neg" and under.inputs[0] == mean):
                    return data
        return x

    def _taken(self, tensor: Tensor, site: Site) -> tuple[tuple[str, int], ...]:
        """The inputs by which this place, and no other one, takes the tensor."""
        consumers = self._provenance.flat.consumers
        ends = {site.node, *(consumer for consumer, _ in consumers[site.node])}

        def step(node_id: NodeId) -> Iterator[NodeId]:
            if node_id not in ends:
                for consumer, _ in consumers[node_id]:
                    if self._nodes[consumer].op in PASSED | LINEAR:
                        yield consumer

        found = []
        for consumer, at in consumers[tensor.node]:
            if at < len(self._nodes[consumer].inputs) and (
                self._nodes[consumer].inputs[at] == tensor
            ):
                walk = self._provenance.flat.walks.reach([consumer], step)
                if any(node in ends for _, node in zip(range(_BEFORE), walk, strict=False)):
                    found.append((self._nodes[consumer].name, at))
        return tuple(found)


def _attribute(node: Node, key: str) -> float:
    value = node.attr(key)
    return 1e-4 if value is None else float(value.f)  # the fused kernels' own default
