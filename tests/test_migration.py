"""docs/migration.md: its table of calls and its example are what happens here."""

import importlib.util
import itertools
import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf
from support import legacy_keras

from alexnet_tf1 import audit_graph
from alexnet_tf1.cli import main as cli
from alexnet_tf1.testing import assert_batch_norm

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/migration.md").read_text(encoding="utf-8")
REWRITE = "run python docs/era_calls.py"


@pytest.fixture(scope="module")
def their_world(tmp_path_factory):
    """The folder that the example trained into, and what the program printed."""
    folder = tmp_path_factory.mktemp("their_model")
    script = Path(__file__).parent / "support" / "migration_program.py"
    return folder, json.loads(legacy_keras.run(script, folder).splitlines()[-1])


def era_calls():
    spec = importlib.util.spec_from_file_location("era_calls", ROOT / "docs/era_calls.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_the_page(column):
    """What the tables say of each call: column 0 stock, 1 with tf_keras."""
    rows = re.findall(r"^\| `(.+?)` \| (works|no \(.+?\)) \| (works|no \(.+?\)) \|", PAGE, re.M)
    return {label: row[column] for label, *row in rows}


def test_the_calls_that_work_are_those_on_the_page():
    assert era_calls().measure() == on_the_page(0), REWRITE


def test_the_calls_that_work_with_tf_keras_are_those_on_the_page(their_world):
    assert their_world[1]["calls"] == on_the_page(1), REWRITE


def test_a_call_that_fails_is_told_from_one_that_works(monkeypatch):
    module = era_calls()
    monkeypatch.setattr(
        module, "CALLS", ["Group", ("right", "run(flat)"), ("wrong", "tf.no_such", "`tf.other`")]
    )
    found = module.measure()
    assert found == {"right": "works", "wrong": "no (AttributeError)"}
    table = module.tables(found, {"right": "works", "wrong": "works"}, "2.21")
    assert "| `wrong` | no (AttributeError) | works | `tf.other` |" in table


def commands_of(page):
    """Each `$ command` of a page and the lines quoted below it."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", page, re.M)
    for block in blocks:
        lines = [line[4:] for line in block.splitlines()]
        starts = [n for n, line in enumerate(lines) if line.startswith("$ ")] + [len(lines)]
        for start, end in itertools.pairwise(starts):
            yield lines[start][2:], "".join(f"{line}\n" for line in lines[start + 1 : end])


def words(text):
    """The words of a text, its fractions and percentages as numbers."""
    return [
        float(word.rstrip("%")) if re.fullmatch(r"[+-]?\d+\.\d+%?", word) else word
        for word in text.split()
    ]


def nearly(text):
    """The same, to compare with: accuracies differ by some examples from training to training."""
    return [pytest.approx(w, rel=0.03, abs=8) if isinstance(w, float) else w for w in words(text)]


def test_the_example_says_what_the_page_quotes(their_world, monkeypatch, capsys):
    folder, printed = their_world
    monkeypatch.chdir(folder)
    ran = []
    for command, quoted in commands_of(PAGE):
        program, _, rest = command.partition("alexnet-tf1 ")
        name = rest or program.rpartition("their_model.py ")[2]
        if name in printed:  # in the program's own process
            found = printed[name]
        else:
            status = cli.main(rest.split())
            assert status == quoted.endswith("1 fault found\n")
            found = capsys.readouterr().out
        if rest.startswith(("diagnose", "recalibrate")):
            assert words(found) == nearly(quoted), command
        else:
            assert found == quoted, command
        ran.append(name.split()[0])
    repair = ["diagnose", "recalibrate", "test", "doctor"]
    assert ran == ["broken", "audit", "doctor", *repair, "mended", "audit", "doctor"]


def test_the_repaired_model_is_served_as_the_page_says(their_world, monkeypatch):
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "saved_model" in b)
    monkeypatch.chdir(their_world[0])
    names = {}
    exec(block, names)
    assert names["logits"].numpy().argmax(1) == [2]


def test_the_example_without_tf_keras_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras", None)  # as if it were not installed
    with pytest.raises(SystemExit, match="pip install tf_keras"):
        runpy.run_path(str(ROOT / "examples/their_model.py"), run_name="__main__")


def test_the_assertion_says_what_the_page_quotes(their_world):
    folder, _ = their_world
    (quoted,) = re.findall(r"    AssertionError: (.+\n)    (.+)\n", PAGE)
    with pytest.raises(AssertionError) as raised:
        assert_batch_norm(folder / "broken/model.ckpt-300.meta")
    assert str(raised.value) == "".join(quoted)
    assert_batch_norm(folder / "mended/model.ckpt-300.meta")


@pytest.mark.parametrize("is_v2", [True, False])
def test_an_update_op_in_a_branch_needs_the_old_control_flow(is_v2):
    (tf.enable_control_flow_v2 if is_v2 else tf.disable_control_flow_v2)()
    try:
        with tf.Graph().as_default(), tf.Session() as session:
            training = tf.placeholder(tf.bool, [])
            average = tf.get_variable("moving_mean", initializer=tf.zeros([3]))

            def in_training():
                update = tf.assign_add(average, tf.ones([3]))
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
                return tf.identity(average)

            tf.cond(training, in_training, lambda: tf.zeros([3]))
            updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
            if is_v2:
                with pytest.raises(ValueError, match="AssignAdd"), tf.control_dependencies(updates):
                    tf.no_op()
                return
            with tf.control_dependencies(updates):
                train_op = tf.no_op()
            session.run(tf.global_variables_initializer())
            session.run(train_op, {training: True})
            assert session.run(average).tolist() == [1, 1, 1]
    finally:
        tf.enable_control_flow_v2()


def test_keras_3_in_a_graph_never_moves_its_averages():
    with tf.Graph().as_default() as graph:
        h = tf.keras.layers.BatchNormalization(name="bn")(tf.ones([4, 6]), training=True)
        logits = tf.matmul(h, tf.get_variable("kernel", [6, 3]), name="logits")
        loss = tf.losses.sparse_softmax_cross_entropy(tf.zeros([4], tf.int64), logits)
        train_op = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        assert not tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    faults = audit_graph(graph, [train_op], logits, is_training=True).faults
    assert [fault.rule for fault in faults] == ["BN101", "BN201", "BN203"]
