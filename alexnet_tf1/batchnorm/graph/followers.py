"""Leads from operations to those that run after them."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from alexnet_tf1.batchnorm.graph.flatten import FlatGraph
from alexnet_tf1.batchnorm.graph.node import NodeId

_SILENT = ("ReadVariableOp", "_Ret")  # nobody runs them for their own sake


class Followers:
    """Everything that waits for an operation or takes its output, in one graph."""

    def __init__(self, flat: FlatGraph) -> None:
        self._flat = flat
        self._waiting: dict[NodeId, list[NodeId]] = {}
        for node in flat.nodes:
            for control in node.controls:
                self._waiting.setdefault(control, []).append(node.id)
        self._top_name = {n: name for name in flat.top for n in flat.run_nodes(name)}
        self._place = {name: place for place, name in enumerate(flat.top)}

    def of_node(self, node_id: NodeId) -> list[NodeId]:
        """The operations that run after this one, one step ahead."""
        taking = [consumer for consumer, _ in self._flat.consumers[node_id]]
        return self._waiting.get(node_id, []) + taking

    def last(self, seeds: Iterable[NodeId]) -> list[str]:
        """Names of the last operations that the seeds lead to, at the graph's top level."""

        def step(node_id: NodeId) -> list[NodeId]:
            after = self.of_node(node_id)
            nodes = self._flat.nodes
            return [n for n in after if nodes[n].op not in _SILENT or self.of_node(n)]

        reached = [n for n in self._flat.walks.reach(seeds, step) if n in self._top_name]
        reached = [n for n in reached if n not in self.in_loops]
        # Of a step or a loop inside a function nothing waits for: take all of it.
        ends = {self._top_name[n] for n in [n for n in reached if not step(n)] or reached}
        return sorted(ends, key=self._place.__getitem__)

    @functools.cached_property
    def in_loops(self) -> set[NodeId]:
        """Everything in the loops of the first generation, which a session cannot fetch."""
        nodes = self._flat.nodes

        def step(node_id: NodeId) -> list[NodeId]:
            return [n for n in self.of_node(node_id) if nodes[n].op not in ("Exit", "RefExit")]

        entries = [node.id for node in nodes if node.op in ("Enter", "RefEnter")]
        return set(self._flat.walks.reach(entries, step))
