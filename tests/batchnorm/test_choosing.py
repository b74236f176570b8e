"""Where the audit looks when nothing is named, and what it says of what it did not look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow.compat.v1 as tf
from corpus import frozen, outputs, programs
from corpus.cases import conv, dense, inputs, loss_of, minimize, moments_norm, switch
from corpus.networks import _static_norm, _towers
from corpus.single import network

from alexnet_tf1.batchnorm.audit import audit_graph
from alexnet_tf1.batchnorm.report import AuditReport
from alexnet_tf1.cli import main as cli
from alexnet_tf1.cli import output
from alexnet_tf1.testing import assert_batch_norm

BOTH = ["bn1", "bn2"]
INFERENCE = "BN201, BN202 and BN203 were not checked"
TRAINING = "BN101, BN102 and BN103 were not checked"


def faults(report: AuditReport) -> list[str]:
    return [f"{fault.rule} {fault.layer}" for fault in report.faults]


def last_line(report: AuditReport) -> str:
    return output.faults("graph", report.to_json("graph")).splitlines()[-1]


def note(report: AuditReport, part: str) -> str:
    (found,) = (note for note in report.notes if part in note)
    return found


def graph_of(build: Callable[[], Any]) -> tf.Graph:
    with tf.Graph().as_default() as graph:
        build()
    return graph


def saved(path: Path, graph: tf.Graph) -> str:
    with graph.as_default():
        tf.train.export_meta_graph(str(path))
    return str(path)


def training_graph(**more: Any) -> tf.Graph:
    return graph_of(lambda: network(_static_norm, True, **more))


def inference_graph(training: bool = False) -> tf.Graph:
    """The same layers; no optimiser."""

    def build() -> None:
        images, _ = inputs()
        programs.tower(images, training, _static_norm)

    return graph_of(build)


# ---- what was checked --------------------------------------------------------------------------


def test_a_report_that_checked_everything_says_so_and_counts() -> None:
    report = audit_graph(graph_of(lambda: network(moments_norm, switch())))
    assert report.checked == {"training": BOTH, "inference": BOTH}
    assert report.left_out == {}
    assert last_line(report) == "no faults found"
    found = report.to_json("graph")
    assert found["checked"] == {**report.checked, "left_out": []}
    assert "\nchecked: training rules on 2 of 2 layers, inference rules on 2 of 2 layers\n" in (
        output.faults("graph", found)
    )


def test_a_layer_that_no_rule_of_a_family_saw_is_named() -> None:
    report = audit_graph(graph_of(outputs.two_stages))
    assert report.checked == {
        "training": ["stage2/bn"],
        "inference": ["stage1/bn", "stage2/bn"],
    }
    assert last_line(report) == (
        f"no faults found in what could be checked: {TRAINING} on stage1/bn"
    )
    assert "--train-op" in note(report, f"{TRAINING} on stage1/bn: ")


def test_a_graph_without_layers_gets_no_all_clear() -> None:
    report = audit_graph(graph_of(lambda: tf.placeholder(tf.float32, [None], name="x")))
    assert last_line(report).endswith("could be checked: no batch normalisation was found")


def test_a_training_op_that_does_not_run_the_network_is_not_taken_for_training() -> None:
    """Gradients are fetched, and fed to another operation."""

    def build() -> None:
        images, labels = inputs()
        logits = programs.tower(images, switch(), moments_norm)
        optimizer = tf.train.GradientDescentOptimizer(0.1)
        pairs = optimizer.compute_gradients(loss_of(labels, logits))
        fed = [(tf.placeholder(tf.float32, v.shape), v) for _, v in pairs]
        optimizer.apply_gradients(fed, name="apply")

    report = audit_graph(graph_of(build))
    assert report.checked["training"] == []
    assert f"{TRAINING}: apply does not run them" in note(report, "apply does not run")
    assert last_line(report) == f"no faults found in what could be checked: {TRAINING}"


def test_a_graph_without_training_op_is_checked_for_inference() -> None:
    def build() -> None:
        images, labels = inputs()
        x = moments_norm(conv(images, 6, "conv1"), switch(), "bn1")
        loss_of(labels, dense(x, 10, "fc2"))

    report = audit_graph(graph_of(build))
    assert report.checked == {"training": [], "inference": ["bn1"]}
    assert "--train-op" in note(report, "no training op was found, though the graph updates")
    assert last_line(report) == f"no faults found in what could be checked: {TRAINING}"


# ---- towers, outputs and switches --------------------------------------------------------------


def test_the_training_tower_is_not_taken_for_the_inference_tower() -> None:
    report = audit_graph(graph_of(lambda: _towers(True)))
    assert report.faults == []
    assert note(report, "logits:").startswith("logits: evaluation/fc2/logits:0 [?, 10] (found")
    assert last_line(report) == "no faults found"


def test_a_tower_that_has_a_switch_infers_though_its_layers_ignore_it() -> None:
    def build() -> None:
        images, labels = inputs()
        x = tf.nn.relu(_static_norm(conv(images, 6, "conv1"), True, "bn1"))
        x = tf.cond(switch(), lambda: tf.nn.dropout(x, rate=0.5), lambda: tf.identity(x))
        minimize(loss_of(labels, dense(x, 10, "fc2")))

    assert faults(audit_graph(graph_of(build))) == ["BN201 bn1", "BN203 bn1"]


def test_all_switches_are_held_together() -> None:
    def build(forget: bool) -> None:
        images, labels = inputs()
        one, two = (tf.placeholder(tf.bool, [], name=n) for n in ("train_a", "train_b"))
        x = moments_norm(conv(images, 6, "conv1"), one, "bn1")
        logits = dense(moments_norm(dense(x, 5, "fc1"), two, "bn2"), 10, "fc2")
        minimize(loss_of(labels, logits), [] if forget else None)

    report = audit_graph(graph_of(lambda: build(False)))
    assert report.faults == []
    assert note(report, "is_training").startswith("is_training: train_a:0, train_b:0 (found")
    assert faults(audit_graph(graph_of(lambda: build(True)))) == ["BN101 bn1", "BN101 bn2"]


def test_an_input_that_leaves_the_layer_out_is_no_switch() -> None:
    def build() -> None:
        images, labels = inputs()
        training, use = switch(), tf.placeholder(tf.bool, [], name="use_batch_norm")
        x = conv(images, 6, "conv1")
        x = tf.cond(use, lambda: moments_norm(x, training, "bn1", "inline"), lambda: x)
        minimize(loss_of(labels, dense(x, 10, "fc2")))

    report = audit_graph(graph_of(build))
    assert note(report, "is_training").startswith("is_training: is_training:0 (found")
    assert report.checked["inference"] == ["bn1"]


def test_a_loss_without_softmax_needs_no_question() -> None:
    def build() -> None:
        images, _ = inputs()
        x = moments_norm(conv(images, 6, "conv1"), switch(), "bn1")
        minimize(tf.reduce_mean(x**2))

    report = audit_graph(graph_of(build))
    assert report.faults == []
    assert last_line(report) == "no faults found"


def test_a_loss_that_waits_for_updates_is_no_output_that_writes() -> None:
    def build() -> None:
        images, labels = inputs()
        x = moments_norm(conv(images, 6, "conv1"), switch(), "bn1", update="always")
        logits = dense(x, 10, "fc2")
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            minimize(tf.identity(loss_of(labels, logits)))

    assert audit_graph(graph_of(build)).faults == []


# ---- training graphs and pairs -----------------------------------------------------------------


@pytest.mark.parametrize(("before", "expected"), [(None, []), ([], ["BN101 bn1", "BN101 bn2"])])
def test_a_training_graph_is_checked_for_training_alone(before: Any, expected: list[str]) -> None:
    graph = training_graph(before=before)
    report = audit_graph(graph)
    assert faults(report) == expected
    assert report.checked == {"training": BOTH, "inference": []}
    assert "there is no inference graph here" in note(report, INFERENCE)
    assert "--inference" in note(report, INFERENCE)
    if not expected:
        assert last_line(report) == f"no faults found in what could be checked: {INFERENCE}"
    named = audit_graph(graph, training_only=True)
    assert (faults(named), named.checked) == (expected, report.checked)
    assert "they were left out" in note(named, INFERENCE)


def test_training_only_leaves_the_rules_of_inference_out() -> None:
    graph = graph_of(lambda: network(_static_norm, switch_ignored()))
    assert faults(audit_graph(graph)) == ["BN201 bn1", "BN203 bn1", "BN201 bn2", "BN203 bn2"]
    assert audit_graph(graph, training_only=True).faults == []


def switch_ignored() -> bool:
    """A switch that is made and decides nothing; the layers get a constant."""
    tf.placeholder(tf.bool, [], name="is_training")
    return True


@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("wrong", [False, True])
def test_a_pair_is_judged_by_both_graphs(tmp_path: Path, forgotten: bool, wrong: bool) -> None:
    training = training_graph(before=[] if forgotten else None)
    inference = inference_graph(training=wrong)
    report = audit_graph(training, inference=inference)
    expected = [f"BN101 {n}" for n in BOTH if forgotten]
    expected += [f"{rule} {n}" for n in BOTH for rule in ("BN201", "BN203") if wrong]
    assert faults(report) == expected
    assert [name for name, _ in report.layers] == BOTH
    assert report.checked == {"training": BOTH, "inference": BOTH}
    assert report.left_out == {}
    files = [saved(tmp_path / f"{k}.meta", g) for k, g in enumerate((training, inference))]
    assert cli.main(["audit", files[0], "--inference", files[1]]) == bool(expected)
    if expected:
        with pytest.raises(AssertionError, match=f"{len(expected)} batch-norm"):
            assert_batch_norm(files[0], inference=files[1])
    else:
        assert_batch_norm(training, inference=inference)


def test_the_switch_of_a_pair_is_looked_for_in_both() -> None:
    pair = [graph_of(lambda: network(moments_norm, switch())) for _ in range(2)]
    assert audit_graph(pair[0], inference=pair[1], is_training="is_training").left_out == {}
    report = audit_graph(training_graph(), inference=pair[1], is_training="is_training")
    assert report.faults == []


def test_an_assertion_on_nothing_fails() -> None:
    with pytest.raises(AssertionError, match=f"nothing was checked: .*{INFERENCE}"):
        assert_batch_norm(inference_graph(), training_only=True)


# ---- training ops that do not update everything ------------------------------------------------


def test_averages_that_nothing_reads_are_a_note() -> None:
    report = audit_graph(graph_of(outputs.dcgan))
    assert report.faults == []
    assert note(report, "nothing reads").startswith("nothing reads the averages of d/bn;")
    assert last_line(report).endswith(f"{INFERENCE} on d/bn")


def test_which_step_moves_whose_averages_is_noted() -> None:
    report = audit_graph(graph_of(outputs.step_moves_the_other))
    assert note(report, "moves the averages") == (
        "d_step moves the averages of g/bn and d/bn; g_step moves the averages of g/bn"
    )


def test_steps_that_move_the_same_are_one_part_of_the_note() -> None:
    with tf.Graph().as_default() as graph:
        net = frozen.partly_frozen_step_by_step()
    assert note(audit_graph(graph, *net), "the averages") == (
        "AssignSubVariableOp, AssignSubVariableOp_1, AssignSubVariableOp_2, "
        "AssignSubVariableOp_3 and 5 more move the averages of no layer; bn2/cond/Identity:0 and "
        "bn2/cond/Identity_1:0 move the averages of bn2"
    )


@pytest.mark.parametrize("build", [outputs.loss_fetched, outputs.regression_forgotten])
def test_what_a_loop_may_also_run_can_be_named(build: Callable[[], Any]) -> None:
    graph = graph_of(build)
    (fault,) = audit_graph(graph).faults
    assert fault.rule == "BN101"
    said, names = fault.message.split("; unless your loop also runs ")
    assert "tf.control_dependencies" in said
    names, how = names.split(": ", 1)
    assert "with --train-op" in how
    train_op = next(op.name for op in graph.get_operations() if op.name == "GradientDescent")
    assert audit_graph(graph, [train_op, *names.split(" and ")]).faults == []


def test_what_lies_within_the_network_is_no_head() -> None:
    """The frozen backbone is a network of its own, which ends in the rectifier before the head."""
    report = audit_graph(graph_of(frozen.new_head))
    assert note(report, "logits: ").startswith("logits: fc2/logits:0 [?, 10] (found;")


# ---- the command -------------------------------------------------------------------------------


def audited(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    cli.main(["audit", *arguments, "--json"])
    found = json.loads(capsys.readouterr().out)
    return [f"{fault['rule']} {fault['layer']}" for fault in found["faults"]]


def test_every_output_that_is_named_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "heads.meta", graph_of(outputs.two_heads_one_training))
    value, policy = ["--logits", "value_out"], ["--logits", "out1/logits"]
    expected = ["BN201 value", "BN203 value"]
    assert audited(capsys, path, *policy) == []
    assert audited(capsys, path, *value, *policy) == audited(capsys, path, *policy, *value)
    assert audited(capsys, path, *value, *policy) == expected


def test_every_switch_that_is_named_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "towers.meta", graph_of(programs.tower_placeholders))
    logits = ["--logits", "fc2/logits", "--logits", "test/fc2/logits"]
    one, two = ["--is-training", "train_phase"], ["--is-training", "valid_phase"]
    assert audited(capsys, path, *logits, *one, *two) == []
    assert audited(capsys, path, *logits, *two, *one) == []
    assert "BN201 bn1" in audited(capsys, path, *logits, *one)
