"""A graph that trains and the graph that infers: the averages of one in the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow.compat.v1 as tf
from corpus import programs
from corpus.cases import inputs, stored
from corpus.frozen import stored_norm
from corpus.networks import _static_norm
from corpus.single import network

from alexnet_tf1.batchnorm.audit import audit_file, audit_graph

BOTH = ["BN102 bn1", "BN102 bn2"]


def faults(report: Any) -> list[str]:
    return [f"{fault.rule} {fault.layer}" for fault in report.faults]


def without_update(x: tf.Tensor, training: bool, name: str) -> tf.Tensor:
    """Keeps variables for the averages and never writes them."""
    with tf.variable_scope(name):
        kept = stored(int(x.shape[-1]))
        mean, variance = tf.nn.moments(x, list(range(len(x.shape) - 1)))
        return tf.nn.batch_normalization(x, mean, variance, kept.beta, kept.gamma, 1e-3)


def training_graph(norm: Any, scope: str = "") -> tf.Graph:
    with tf.Graph().as_default() as graph, tf.variable_scope(scope):
        network(norm, True)
    return graph


def inference_graph(scope: str = "", names: str = "{}") -> tf.Graph:
    with tf.Graph().as_default() as graph:
        images, _ = inputs()
        with tf.variable_scope(scope):
            programs.tower(images, False, _static_norm)
        tf.train.Saver({names.format(v.op.name): v for v in tf.global_variables()})
    return graph


def test_averages_that_the_training_graph_never_updates() -> None:
    assert audit_graph(training_graph(_static_norm), inference=inference_graph()).faults == []
    report = audit_graph(training_graph(without_update), inference=inference_graph())
    assert faults(report) == BOTH
    first = report.faults[0].message
    assert first.startswith("bn1/moving_mean and bn1/moving_variance are read in the inference")
    assert "(layer built at " in first
    one = audit_graph(
        training_graph(without_update), inference=inference_graph(), ignore="BN102:bn1"
    )
    assert faults(one) == BOTH[1:]


def test_a_graph_that_trains_nothing_is_no_evidence() -> None:
    assert audit_graph(inference_graph(), inference=inference_graph()).faults == []


def test_averages_that_training_normalises_with_are_rule_bn103s() -> None:
    report = audit_graph(training_graph(stored_norm), inference=inference_graph())
    assert faults(report) == ["BN103 bn1", "BN103 bn2"]


@pytest.mark.parametrize("norm", [_static_norm, without_update])
def test_names_in_a_checkpoint_join_what_has_other_names(norm: Any) -> None:
    training, expected = training_graph(norm, "net"), BOTH if norm is without_update else []
    report = audit_graph(training, inference=inference_graph(names="net/{}"))
    assert (faults(report), report.left_out) == (expected, {})
    report = audit_graph(training, inference=inference_graph())
    what = "BN102 was not checked across the graphs on bn1/moving_mean, bn1/moving_variance, "
    assert report.faults == []
    assert report.left_out["pair"].startswith(what)
    assert any(note.startswith(what) for note in report.notes)


def test_averages_that_were_trained_elsewhere(tmp_path: Path) -> None:
    """The checkpoint beside the training graph holds values for them."""
    with training_graph(without_update).as_default() as graph, tf.Session(graph=graph) as session:
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver()
        prefix = saver.save(session, str(tmp_path / "model"))
        assert faults(audit_file(prefix, inference=inference_graph())) == BOTH
        for variable in tf.global_variables():
            if variable.op.name.endswith("moving_mean"):
                session.run(variable.assign_add(tf.ones_like(variable) / 2))
        saver.save(session, prefix)
    assert audit_file(prefix, inference=inference_graph()).faults == []
