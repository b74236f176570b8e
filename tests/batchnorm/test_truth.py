"""What the corpus expects is what happens: its graphs are run, and looked at from outside.

The gate runs the first graph of each part that breaks the same rules; `-m soak` the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from corpus import folded, old, pruning
from corpus.cases import CASES, Case, Net, built

MODULES = {module.__name__ for module in (pruning, old, folded)}
RUN = [entry for entry in CASES if entry.build.__module__ in MODULES]
EXAMPLES = 6


class Trial:
    """One graph in a session, from values that can be restored.

    Args:
      graph: the case's graph, the current one.
      net: what the case returned.
    """

    def __init__(self, graph: tf.Graph, net: Net) -> None:
        self.session = tf.Session(graph=graph)
        self.net = net
        draw = np.random.RandomState(0)
        placeholders = [op.outputs[0] for op in graph.get_operations() if op.type == "Placeholder"]
        self.data = {t: _fed(t, draw) for t in placeholders if t.dtype != tf.bool}
        self.switches = [t for t in placeholders if t.dtype == tf.bool]
        self.variables = {v.op.name: v for v in tf.global_variables()}
        trained = {v.op.name for v in tf.trainable_variables()}
        self.averages = [
            name
            for name, variable in self.variables.items()
            if name not in trained and "Adam" not in name and variable.shape.rank == 1
        ]
        self.session.run(tf.global_variables_initializer())
        self.initial = self.values()
        for name in sorted(
            trained
        ):  # no bias that is 0, no activation that is dead for all examples
            self.initial[name] = self.initial[name] + draw.uniform(
                -0.3, 0.3, self.initial[name].shape
            )
        for name in self.averages:
            self.initial[name] = 1 + draw.uniform(size=self.initial[name].shape)
        self.load(self.initial)

    def infer(self, data: Any = None) -> np.ndarray:
        """The logits in inference, from the initial values; of other data, where given."""
        self.load(self.initial)
        return self.again(data)

    def again(self, data: Any = None) -> np.ndarray:
        """The logits in inference, from the values as they are."""
        feed = {**(data or self.data), **dict.fromkeys(self.switches, False)}
        return self.session.run(self.net.logits, feed)

    def train(self) -> None:
        """Runs the training ops once, from the initial values."""
        self.load(self.initial)
        self.session.run(self.net.train_ops, {**self.data, **dict.fromkeys(self.switches, True)})

    def values(self) -> dict[str, np.ndarray]:
        return self.session.run(self.variables)

    def load(self, values: dict[str, np.ndarray]) -> None:
        for name, value in values.items():
            self.variables[name].load(value, self.session)

    def moved(self) -> set[str]:
        """Variables that no longer have their initial values."""
        values = self.values()
        return {n for n in values if not np.allclose(values[n], self.initial[n], rtol=1e-6, atol=0)}


def _fed(tensor: tf.Tensor, draw: np.random.RandomState) -> np.ndarray:
    shape = [size or EXAMPLES for size in tensor.shape.as_list()]
    if tensor.dtype == tf.float32:
        return 2 * draw.standard_normal(shape) + 1
    return draw.randint(0, 10, shape)


def happening(trial: Trial) -> set[str]:
    """The rules that the graph breaks, as seen by running it; BN101 stands for BN102 too."""
    found = set()
    logits = trial.infer()
    if trial.moved():
        found.add("BN202")
    others = {t: np.concatenate([v[:1], v[1:] // 2 - 1]) for t, v in trial.data.items()}
    if not np.allclose(logits[0], trial.infer(others)[0], atol=1e-4):
        found.add("BN201")
    trial.load({name: trial.initial[name] + 2 for name in trial.averages})
    if trial.averages and np.allclose(logits, trial.again(), atol=1e-4):
        found.add("BN203")
    trial.train()
    if set(trial.averages) - trial.moved():
        found.add("BN101")
    return found


def entries() -> Iterator[Any]:
    seen = set()
    for entry in RUN:
        kind = (entry.build.__module__, *sorted({fault.split()[0] for fault in entry.expects}))
        yield pytest.param(entry, id=entry.name, marks=[pytest.mark.soak] if kind in seen else [])
        seen.add(kind)


@pytest.mark.parametrize("entry", list(entries()))
def test_a_graph_breaks_the_rules_it_is_said_to_break(entry: Case) -> None:
    graph, net = built(entry)
    with graph.as_default():
        trial = Trial(graph, net)
        expected = {fault.split()[0].replace("BN102", "BN101") for fault in entry.expects}
        found = happening(trial)
        if "BN202" in found & expected:  # averages just written bring the batch along
            found = found - {"BN201"} | expected & {"BN201"}
        assert found == expected
