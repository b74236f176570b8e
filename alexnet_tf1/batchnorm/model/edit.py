"""Changes a GraphDef: tensors replaced by others, new operations grafted on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tensorflow.compat.v1 as tf

from alexnet_tf1.batchnorm.graph.walk import Walks

_DROPPED = ("_class", "_output_shapes")  # they speak of the graph as it was


class GraphEdit:
    """A changed copy of a graph in the making.

    Tensors are named "node:0".
    """

    def __init__(self, graph_def: Any) -> None:
        """Begins with the graph as it is; `graph_def` itself stays so."""
        self._graph_def = graph_def
        self._tensors: dict[str, str] = {}  # what everybody takes in its place, by tensor
        self._inputs: dict[tuple[str, int], str] = {}  # what one node takes as one of its inputs
        self._nodes: dict[str, str] = {}  # what to wait for in its place, by node
        self._grafts: list[Any] = []

    def replace(self, tensor: str, by: str, *, only: Iterable[tuple[str, int]] = ()) -> None:
        """Gives all that take a tensor another one, or only those nodes' inputs."""
        inputs = list(only)
        self._inputs |= dict.fromkeys(inputs, by)
        if not inputs:
            self._tensors[tensor] = by

    def never_run(self, node: str, instead: str) -> None:
        """Has what waits for a node wait for another one."""
        self._nodes[node] = instead

    def graft(
        self, prefix: str, build: Callable[[], Mapping[str, Any]], inputs: Mapping[str, str]
    ) -> dict[str, str]:
        """Adds the operations that `build` makes in a graph of its own.

        Args:
          prefix: goes before their names.
          build: makes them and returns tensors by any names.
          inputs: by a placeholder's name in that graph, the tensor of this graph that it stands
            for. What this graph's tensors are replaced by does not concern the grafts.

        Returns:
          The names here of the tensors that `build` returned.
        """
        with tf.Graph().as_default() as graph:
            made = {name: tensor.name for name, tensor in build().items()}

        def here(text: str) -> str:
            control = text.startswith("^")
            node, _, output = text.lstrip("^").partition(":")
            if node in inputs:
                return inputs[node]
            return ("^" if control else "") + f"{prefix}/{node}" + (f":{output}" if output else "")

        for node in graph.as_graph_def().node:
            if node.name in inputs:
                continue
            node.name = f"{prefix}/{node.name}"
            taken = [here(text) for text in node.input]
            del node.input[:]
            node.input.extend(taken)
            self._grafts.append(node)
        return {name: here(tensor) for name, tensor in made.items()}

    def now(self, tensor: str) -> str:
        """The tensor's name after all replacements."""
        return self._tensors.get(tensor, tensor)

    def result(self, fetched: Iterable[str]) -> Any:
        """The changed graph, cut down to what these tensors need.

        Devices and recorded shapes are dropped: they belong to the machine and the graph as it was.
        """
        graph_def = tf.GraphDef()
        graph_def.CopyFrom(self._graph_def)
        for node in graph_def.node:
            for k, text in enumerate(node.input):
                if text.startswith("^"):
                    node.input[k] = "^" + self._nodes.get(text[1:], text[1:])
                    continue
                tensor = text if ":" in text else f"{text}:0"
                node.input[k] = self._inputs.get((node.name, k), self._tensors.get(tensor, text))
            _set_data_inputs_first(node)
        graph_def.node.extend(self._grafts)
        for node in graph_def.node:
            node.device = ""
            for key in _DROPPED:
                node.attr.pop(key, None)
        return _cut_down(graph_def, (tensor.partition(":")[0] for tensor in fetched))


def _cut_down(graph_def: Any, wanted: Iterable[str]) -> Any:
    """The part of a graph that running these operations runs, with its functions."""
    nodes = {node.name: node for node in graph_def.node}

    def step(name: str) -> Iterator[str]:
        for text in nodes[name].input:
            yield text.lstrip("^").partition(":")[0]

    needed = set(Walks().reach(wanted, step))
    part = tf.GraphDef(library=graph_def.library, versions=graph_def.versions)
    part.node.extend(node for node in graph_def.node if node.name in needed)
    return part


def _set_data_inputs_first(node: Any) -> None:
    """Drops doubled control inputs, which replacing may have made."""
    kept = list(dict.fromkeys(text for text in node.input if text.startswith("^")))
    data = [text for text in node.input if not text.startswith("^")]
    if len(kept) + len(data) != len(node.input):
        del node.input[:]
        node.input.extend(data + kept)
