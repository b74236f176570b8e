"""Tells the networks of a graph apart, and finds where each of them ends.

A network is what one training step changes: a GAN has two. It ends where no operation with weights
of its own follows; losses, metrics and gradients lie behind its ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from alexnet_tf1.batchnorm.graph.followers import Followers
from alexnet_tf1.batchnorm.graph.node import Node, NodeId, Tensor, VariableId
from alexnet_tf1.batchnorm.graph.ops import IDENTITIES, MERGES, SUMS, SWITCHES, is_fused
from alexnet_tf1.batchnorm.layers.layer import Layer
from alexnet_tf1.batchnorm.layers.provenance import Provenance

# The training steps that change a network's weights; none of one that is not trained here.
Network = frozenset[NodeId]

_NOBODY = NodeId(-1)
_REDUCTIONS = frozenset({"Mean", "Sum", "Max", "Min", "Prod"})
# What may stand behind the last weights and still be the network's output.
_TAIL = SUMS | frozenset(
    "BiasAdd Identity Merge RefMerge _Ret Exit RefExit Squeeze Relu Tanh Sigmoid Softmax".split()
)
_UNCHANGED = IDENTITIES | MERGES | SWITCHES


class Networks:
    """The networks of a graph, by the variables they hold."""

    def __init__(
        self,
        steps: Iterable[NodeId],
        weights: set[VariableId],
        provenance: Provenance,
        followers: Followers,
    ) -> None:
        """Groups the training steps, which each write one variable.

        Args:
          steps: the writes of optimisers to weights.
          weights: variables that make an operation part of a network.
          provenance: the graph.
          followers: what runs after an operation.
        """
        self._weights = weights
        group = _grouped(list(steps), followers)
        self._steps: dict[VariableId, set[NodeId]] = {}
        for step, first in group.items():
            write = provenance.variables.write_of[step]
            self._steps.setdefault(write.variable, set()).add(first)

    def with_weights(self, variables: Iterable[VariableId]) -> Network | None:
        """The network that holds the weights among the variables; None if none is a weight."""
        found = [v for v in variables if v in self._weights]
        if not found:
            return None
        return frozenset(step for v in found for step in self._steps.get(v, ()))

    def of_layer(self, layer: Layer) -> Network:
        """The network that a layer is part of, by its parameters and the weights before it."""
        variables = layer.affine.union(*(site.weights for site in layer.sites))
        return self.with_weights(variables) or frozenset()


def _grouped(steps: list[NodeId], followers: Followers) -> dict[NodeId, NodeId]:
    """Gives each step the first of those that the same operation waits for."""
    waiters = {step: followers.of_node(step) or [_NOBODY] for step in steps}
    waited: dict[NodeId, list[NodeId]] = {}
    for step in steps:
        for waiter in waiters[step]:
            waited.setdefault(waiter, []).append(step)
    group: dict[NodeId, NodeId] = {}
    for first in steps:
        found = [first]
        while found:
            step = found.pop()
            if step not in group:
                group[step] = first
                found += [s for w in waiters[step] for s in waited.pop(w, [])]
    return group


class End(NamedTuple):
    """An output of a network."""

    tensor: Tensor
    network: Network


class ForwardPass:
    """The part of a graph that computes example by example, gradients apart."""

    def __init__(self, provenance: Provenance, networks: Networks, layers: list[Layer]) -> None:
        self._provenance = provenance
        self._nodes = provenance.nodes
        self._consumers = provenance.flat.consumers
        self._networks = networks
        # What has neither parameters nor averages may as well be a part of the loss.
        self._sites = {
            site.node: networks.of_layer(layer)
            for layer in layers
            if layer.affine or layer.averages
            for site in layer.sites
        }
        self._bases = {site.base.node for layer in layers for site in layer.sites}
        self._per_example = self._find_per_example()

    def ends(self) -> list[End]:
        """Finds the outputs of every network, in the order of the graph."""
        found: dict[Tensor, Network] = {}
        bits: dict[Network, int] = {}
        own = [0] * len(self._nodes)  # the network that an operation belongs to
        ahead = [0] * len(self._nodes)  # the networks that go on behind it
        for node_id in reversed(self._provenance.order):
            if not self._per_example[node_id]:
                continue
            for consumer, _ in self._consumers[node_id]:
                ahead[node_id] |= own[consumer] | ahead[consumer]
            network = self._network(self._nodes[node_id])
            if network is None:
                continue
            own[node_id] = bits.setdefault(network, 1 << len(bits))
            if not ahead[node_id] & own[node_id]:
                found |= {
                    Tensor(n, 0): network for n in self._tail(node_id) if self._may_be_output(n)
                }
        # What lies in the body of a loop cannot be fetched.
        top = {network for tensor, network in found.items() if self._is_top(tensor.node)}
        return [
            End(tensor, network)
            for tensor, network in sorted(found.items())
            if network not in top or self._is_top(tensor.node)
        ]

    def _may_be_output(self, node_id: NodeId) -> bool:
        """Tells whether the result is more than a variable's initial value or a moment's input."""
        if self._serves_statistics(node_id):
            return False
        writes = self._provenance.variables.write_of

        def step(current: NodeId) -> list[NodeId]:
            passed = current == node_id or self._nodes[current].op in _UNCHANGED
            return [c for c, _ in self._consumers[current]] if passed else []

        return not any(n in writes for n in self._provenance.flat.walks.reach([node_id], step))

    def _serves_statistics(self, node_id: NodeId) -> bool:
        """Tells whether the result is computed for the batch's mean and variance alone.

        Where normalisation is folded into weights, they are taken of a result that goes nowhere
        else, or by a fused operation whose normalised output nobody takes.
        """
        consumers = self._consumers[node_id]
        if is_fused(self._nodes[node_id].op):
            forward = [
                (self._nodes[c], at)
                for c, at in consumers
                if not self._provenance.is_gradient(self._nodes[c])
            ]
            return bool(forward) and all(node.inputs[at].output for node, at in forward)
        return node_id in self._bases

    def _is_top(self, node_id: NodeId) -> bool:
        return self._nodes[node_id].name in self._provenance.flat.top

    def _network(self, node: Node) -> Network | None:
        """The network whose weights the operation takes in, if it takes any."""
        if node.id in self._sites:
            return self._sites[node.id]
        statistics = (t for t in node.inputs if not self._provenance.tainted[t.node])
        return self._networks.with_weights(
            v for tensor in statistics for v in self._provenance.sources(tensor).variables
        )

    def _tail(self, node_id: NodeId) -> list[NodeId]:
        """Follows the output through activations, sums with a bias, and out of a branch."""

        def step(current: NodeId) -> list[NodeId]:
            follow = self._goes_on if self._is_top(current) else self._leads_out
            return [c for c, at in self._consumers[current] if follow(c, at)]

        reached = list(self._provenance.flat.walks.reach([node_id], step))
        return [n for n in reached if not step(n)]

    def _leads_out(self, consumer: NodeId, _: int) -> bool:
        return bool(self._per_example[consumer])

    def _goes_on(self, consumer: NodeId, at: int) -> bool:
        node = self._nodes[consumer]
        if not self._per_example[consumer] or node.op not in _TAIL:
            return False
        if node.op not in SUMS:
            return True
        others = [t for k, t in enumerate(node.inputs) if k != at]
        return all(
            not self._per_example[t.node] and self._provenance.sources(t).variables for t in others
        )

    def _find_per_example(self) -> bytearray:
        """Marks the nodes that hold something for each example, without gradients."""
        marks = bytearray(len(self._nodes))
        backward = bytearray(len(self._nodes))
        for _ in range(3):  # state goes round a loop
            before = bytes(marks)
            for node_id in self._provenance.order:
                node = self._nodes[node_id]
                if self._provenance.is_gradient(node) or any(backward[t.node] for t in node.inputs):
                    backward[node_id] = 1
                elif self._is_per_example(node, marks):
                    marks[node_id] = 1
            if bytes(marks) == before:
                break
        return marks

    def _is_per_example(self, node: Node, marks: bytearray) -> bool:
        tainted, variables = self._provenance.tainted, self._provenance.variables
        if not tainted[node.id] or node.id in variables.reading or node.id in variables.write_of:
            return False
        kept = [
            t
            for t in node.inputs
            if marks[t.node] and not (t.output and is_fused(self._nodes[t.node].op))
        ]
        is_source = not any(tainted[t.node] for t in node.inputs)
        return (bool(kept) or is_source) and self._keeps_examples(node)

    def _keeps_examples(self, node: Node) -> bool:
        """Tells whether the operation leaves the examples apart: it is no moment and no loss."""
        if node.op not in _REDUCTIONS or len(node.inputs) < 2:
            return node.op != "L2Loss"
        axes = self._provenance.axes.integers(node.inputs[1])
        if axes is None or self._provenance.reduces_batch(node):
            return False
        rank = self._provenance.axes.rank(node.inputs[0])
        return rank is None or len(axes) < rank
