"""The audit's work grows with the graph and not with its square; what is too large is said."""

import cProfile
import pstats
import tracemalloc

import pytest
import tensorflow.compat.v1 as tf
from support.hostile_files import doubling

from alexnet_tf1 import audit_graph
from alexnet_tf1.batchnorm.graph import flatten, load
from alexnet_tf1.cli import main as cli


def many(count, *, chained):
    """A graph of fused normalisations whose updates training does not run."""
    graph = tf.GraphDef()

    def node(name, op, *inputs, **attributes):
        added = graph.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            added.attr[key].CopyFrom(value)
        return name

    floating = tf.AttrValue(type=1)
    shape = tf.AttrValue(shape=tf.TensorShape([None, 4, 4, 8]).as_proto())
    channels = tf.AttrValue(shape=tf.TensorShape([8]).as_proto())
    rate = tf.AttrValue(tensor=tf.make_tensor_proto(0.1))
    last = node("x", "Placeholder", dtype=floating, shape=shape)
    node("rate", "Const", value=rate)
    for k in range(count):
        names = [f"bn{k}/{name}" for name in ("gamma", "beta", "mean", "variance")]
        for name in names:
            node(name, "VariableV2", dtype=floating, shape=channels)
        last = node(f"bn{k}/y", "FusedBatchNormV3", last if chained else "x", *names)
        for output, name in enumerate(names[2:], 1):
            node(f"{name}/change", "Sub", name, f"{last}:{output}")
            node(f"{name}/step", "Mul", f"{name}/change", "rate")
            node(f"{name}/update", "AssignSub", name, f"{name}/step")
    node("w", "VariableV2", dtype=floating, shape=channels)
    node("logits", "Mul", last, "w")
    node("step", "ApplyGradientDescent", "w", "rate", "logits")
    return graph


@pytest.mark.parametrize("chained", [True, False])
def test_four_times_the_layers_are_four_times_the_work(chained):
    calls = []
    for count in (75, 75, 300):  # the first one imports
        with cProfile.Profile() as profile:
            report = audit_graph(many(count, chained=chained))
        assert len(report.layers) == count
        assert {fault.rule for fault in report.faults} >= {"BN101"}
        calls.append(pstats.Stats(profile).total_calls)
    assert calls[2] < 5 * calls[1]


def test_calls_that_double_stay_within_their_bound():
    """A million nodes in 1.5 kB: not more of them than fit into the promised 64 MiB."""
    graph = doubling(20)
    assert graph.ByteSize() < 1_500
    flat = flatten.FlatGraph(graph)
    assert 10_000 < len(flat.nodes) < (64 << 20) / 900
    assert flat.truncated


@pytest.mark.soak
def test_calls_that_double_take_less_memory_than_promised():
    tracemalloc.start()
    try:
        audit_graph(doubling(20))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("limit", "value"), [("MAX_BYTES", 500), ("MAX_OPERATIONS", 20)])
def test_a_graph_beyond_a_limit_is_one_line(limit, value, tmp_path, capsys, monkeypatch):
    path = tmp_path / "graph.pb"
    path.write_bytes(many(2, chained=True).SerializeToString())
    assert cli.main(["audit", str(path)]) in (0, 1)
    capsys.readouterr()
    monkeypatch.setattr(load, limit, value)
    assert cli.main(["audit", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path} ")
    assert f"at most {value} are read" in error
    assert error.count("\n") == 1
