"""The programs of the corpus do what is expected of them: they are run, seen from outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from corpus import outputs, programs
from corpus.cases import CASES, Case, Net, built

MODULES = {programs.__name__, outputs.__name__}
RUN = [c for c in CASES if c.build.__module__ in MODULES and c.style == "resource, v2"]
EXAMPLES = 6
pytestmark = pytest.mark.soak


class Program:
    """A graph in a session, with data that is the same in every run."""

    def __init__(self, graph: tf.Graph, net: Net) -> None:
        self.net = net
        self.session = tf.Session()
        self.session.run(tf.global_variables_initializer())
        placeholders = [op.outputs[0] for op in graph.get_operations() if op.type == "Placeholder"]
        draw = np.random.RandomState(0)
        self.switches = [t for t in placeholders if t.dtype == tf.bool]
        self.data = {t: _drawn(t, draw) for t in placeholders if t.dtype != tf.bool}
        self.averages = [v for v in tf.global_variables() if "/moving_" in v.name]

    def infer(self, data: Any = None) -> list[np.ndarray]:
        logits = self.net.logits if isinstance(self.net.logits, list) else [self.net.logits]
        feed = {**(data or self.data), **dict.fromkeys(self.switches, False)}
        return self.session.run(logits, feed)

    def mixes(self) -> bool:
        """Tells whether an answer depends on the other examples of the batch."""
        others = {t: np.concatenate([v[:1], v[1:] // 2 + 1]) for t, v in self.data.items()}
        pairs = zip(self.infer(), self.infer(others), strict=True)
        return not all(np.allclose(one[0], two[0], atol=1e-4) for one, two in pairs)

    def reads(self, layer: str) -> bool:
        """Tells whether an answer depends on the layer's averages."""
        before = self.infer()
        for variable in self.averages:
            if variable.name.startswith(f"{layer}/"):
                variable.load(self.session.run(variable) + 1.5, self.session)
        return not all(
            np.allclose(a, b, atol=1e-4) for a, b in zip(before, self.infer(), strict=True)
        )

    def moves(self, layer: str) -> bool:
        """Tells whether the training ops change the layer's averages."""
        names = [v for v in self.averages if v.name.startswith(f"{layer}/")]
        before = self.session.run(names)
        feed = {**self.data, **dict.fromkeys(self.switches, True)}
        for op in (
            self.net.train_ops if isinstance(self.net.train_ops, list) else [self.net.train_ops]
        ):
            self.session.run(op, feed)
        after = self.session.run(names)
        return any((a != b).any() for a, b in zip(before, after, strict=True))


def _drawn(tensor: tf.Tensor, draw: np.random.RandomState) -> np.ndarray:
    shape = [size or EXAMPLES for size in tensor.shape.as_list()]
    if tensor.dtype == tf.float32:
        return 2 * draw.standard_normal(shape) + 1
    return draw.randint(0, 4, shape)


@pytest.mark.parametrize("entry", RUN, ids=[entry.name for entry in RUN])
def test_a_program_has_the_faults_it_is_said_to_have_and_no_others(entry: Case) -> None:
    graph, net = built(entry)
    with graph.as_default():
        program = Program(graph, net)
        assert program.mixes() == any(fault.startswith("BN201") for fault in entry.expects)
        for layer in {v.op.name.rpartition("/")[0] for v in program.averages}:
            moves, reads = program.moves(layer), program.reads(layer)
            if f"BN101 {layer}" in entry.expects:
                assert not moves
            elif reads:
                assert moves or "frozen" in entry.name or layer == "target/bn"
            if f"BN203 {layer}" in entry.expects:
                assert not reads
