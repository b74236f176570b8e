"""The audit on its corpus: no false alarm, no miss, on live graphs and on MetaGraphs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow.compat.v1 as tf
from corpus import table as audit_table
from corpus.cases import Case, built, conv, dense, fused_norm, inputs, loss_of, switch
from support import legacy_keras

from alexnet_tf1 import build_alexnet
from alexnet_tf1.batchnorm.audit import audit_file, audit_graph
from alexnet_tf1.batchnorm.report import AuditReport

CASES = audit_table.CASES
NAMES = {entry.name for entry in CASES}


def found(report: AuditReport) -> list[str]:
    return [f"{fault.rule} {fault.layer}" for fault in report.faults]


def check(entry: Case, report: AuditReport) -> None:
    messages = "\n".join(f.message for f in report.faults)
    assert sorted(found(report)) == sorted(entry.expects), f"{messages}\n{report}"
    if entry.layers is not None:
        assert [name for name, _ in report.layers] == entry.layers
    for fault in report.faults:
        assert "\n" not in fault.message
        assert "_grad/" not in fault.message  # nobody normalises in a gradient
        assert any(name == fault.layer for name, _ in report.layers)


def gate() -> list[Case]:
    """Of a graph in several styles one, in turn with the newest and with the oldest TensorFlow.

    A graph and its sabotaged twins, which share the words before the comma, have the same style.
    What the styles differ in is the flattening and the folding of the graph, which hundreds of
    others put to the test; `test_the_gate_has_every_rule_...` would tell if a style lacked a rule.
    """
    turns: dict[str, int] = {}
    chosen = []
    for entry in CASES:
        name = entry.name.removesuffix(f" ({entry.style})")
        ours = [style for style in ("ref, v1", "resource, v2") if f"{name} ({style})" in NAMES]
        ours = ours or ["resource, v2"]  # it has no style in its name
        turn = turns.setdefault(name.split(",")[0], len(turns)) if len(ours) == 2 else 0
        if entry.style == ours[turn % len(ours)]:
            chosen.append(entry)
    return chosen


def entries() -> Iterator[Any]:
    chosen = gate()
    for entry in CASES:
        yield pytest.param(
            entry, id=entry.name, marks=[] if entry in chosen else [pytest.mark.soak]
        )


@pytest.mark.parametrize("entry", list(entries()))
def test_corpus(entry: Case) -> None:
    graph, net = built(entry)
    check(entry, audit_graph(graph, net.train_ops, net.logits, net.is_training))
    with graph.as_default():
        meta = tf.train.export_meta_graph()
    meta = tf.MetaGraphDef.FromString(meta.SerializeToString())
    check(entry, audit_graph(meta, *(_names(part) for part in net)))
    assert sorted(found(audit_graph(meta))) == sorted(entry.alone)  # and with nothing named


def _names(part: Any) -> Any:
    if part is None or isinstance(part, (bool, str)):
        return part
    if isinstance(part, (list, tuple)):
        return [_names(p) for p in part]
    return part.name


def test_every_rule_has_graphs_that_break_it_and_graphs_that_do_not() -> None:
    rules = {expected.split()[0] for entry in CASES for expected in entry.expects}
    assert rules == {"BN101", "BN102", "BN103", "BN201", "BN202", "BN203", "BN301"}
    right = [entry for entry in CASES if not entry.expects]
    assert min(len(right), len(CASES) - len(right)) > 60


def test_the_gate_has_every_rule_broken_and_kept_in_both_generations() -> None:
    rules = {expected.split()[0] for entry in CASES for expected in entry.expects}
    for style in ("resource, v2", "ref, v1"):
        chosen = [entry for entry in gate() if entry.style == style]
        assert {expected.split()[0] for entry in chosen for expected in entry.expects} == rules
        assert sum(not entry.expects for entry in chosen) > 20


def test_the_printed_table_is_the_corpus() -> None:
    page = Path(__file__).parents[2] / "docs" / "audit_corpus.md"
    if not page.exists():
        pytest.skip("docs/ is not beside the tests")
    text = page.read_text()
    missing = [entry.name for entry in CASES if f"| {entry.name} |" not in text]
    assert not missing, "run the command at the head of corpus/table.py"


# ---- the real tf.layers and tf_keras ---------------------------------------------------------


@pytest.fixture(scope="module", params=["one", pytest.param("both", marks=pytest.mark.soak)])
def keras_graphs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("keras")
    legacy_keras.run(Path(__file__).parent / "corpus" / "keras_graphs.py", folder, request.param)
    return folder, json.loads((folder / "cases.json").read_text())


def test_real_layers(keras_graphs: tuple[Path, dict[str, Any]]) -> None:
    folder, cases = keras_graphs
    assert len(cases) >= 20
    wrong = {}
    for name, case in cases.items():
        report = audit_file(
            folder / case["path"], case["train_ops"], case["logits"], case["is_training"]
        )
        alone = audit_file(folder / case["path"])
        expected = (sorted(case["expects"]), sorted(case["alone"]), case["layers"])
        answer = (sorted(found(report)), sorted(found(alone)), len(report.layers))
        if answer != expected:
            wrong[name] = (answer, expected)
    assert not wrong


# ---- the project's own network -----------------------------------------------------------------


@pytest.mark.parametrize("update_ops", ["control", "none"])
@pytest.mark.parametrize("fc_batch_norm", ["batch", "ema"])
def test_alexnet(update_ops: str, fc_batch_norm: str) -> None:
    with tf.Graph().as_default() as graph:
        net = build_alexnet(update_ops=update_ops, fc_batch_norm=fc_batch_norm)
    report = audit_graph(graph, [net.train_op], net.logits, net.is_training)
    fused = ["batch_normalization", "batch_normalization_1"]
    by_hand = ["batch_normal", "batch_normal_1"]
    expected = []
    if update_ops == "none":
        forgotten = fused if fc_batch_norm == "batch" else fused + by_hand
        expected += [f"BN101 {layer}" for layer in forgotten]
    if fc_batch_norm == "batch":
        expected += [f"{rule} {n}" for n in by_hand for rule in ("BN201", "BN202", "BN203")]
    assert sorted(found(report)) == sorted(expected)
    assert [name for name, _ in report.layers] == fused + by_hand
    assert found(audit_graph(graph)) == found(report)  # and nothing needs to be named


# ---- size ----------------------------------------------------------------------------------------


def many_operations(count: int) -> tuple[Any, str, str, str]:
    """A MetaGraph of so many forgotten normalisations; benchmarks/audit_time.py times its audit."""
    with tf.Graph().as_default():
        images, labels = inputs()
        training, x = switch(), images
        for k in range(count):
            x = tf.nn.relu(fused_norm(conv(x, 8, f"conv{k}"), training, f"bn{k}"))
        logits = dense(x, 10, "fc")
        train = tf.train.AdamOptimizer().minimize(loss_of(labels, logits))
        meta = tf.train.export_meta_graph()
    return meta, train.name, logits.name, training.name


@pytest.mark.parametrize(
    ("count", "operations"), [(12, 2_000), pytest.param(58, 10_000, marks=pytest.mark.soak)]
)
def test_every_fault_of_a_large_graph_is_found(count: int, operations: int) -> None:
    meta, *names = many_operations(count)
    bodies = sum(len(f.node_def) for f in meta.graph_def.library.function)
    assert len(meta.graph_def.node) + bodies >= operations
    assert found(audit_graph(meta, *names)) == [f"BN101 bn{k}" for k in range(count)]
