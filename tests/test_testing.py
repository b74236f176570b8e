"""assert_batch_norm and the pytest fixture: a right graph passes, its sabotaged twin does not."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf

from alexnet_tf1.errors import UserError
from alexnet_tf1.testing import assert_batch_norm

pytest_plugins = ["pytester"]
PAGE = Path(__file__).parents[1] / "docs/migration.md"
MODEL = """
import tensorflow.compat.v1 as tf
from alexnet_tf1 import layers

def build_model(forget=False):
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, 4, 4, 2])
        is_training = tf.placeholder(tf.bool, [])
        x = layers.batch_normalization(images, is_training, name="bn_a")
        x = layers.conv2d(x, 3, 3, name="conv")
        x = layers.batch_normalization(x, is_training, name="bn_b")
        logits = layers.dense(layers.flatten(x, name="flatten"), 2, name="dense")
        before = [] if forget else tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        with tf.control_dependencies(before):
            loss = tf.reduce_mean(logits)
            train_op = tf.train.GradientDescentOptimizer(0.1).minimize(loss, name="train_op")
    return graph, train_op, logits, is_training
"""
names = {}
exec(MODEL, names)
build_model = names["build_model"]


@pytest.fixture(scope="module", autouse=True)
def _imported():
    """What TensorFlow imports on the way, before pytester can take it away again."""
    assert_batch_norm(*build_model())


def is_installed():
    return bool(importlib.metadata.entry_points(group="pytest11", name="alexnet_tf1"))


def test_a_right_graph_passes_and_gives_its_report():
    graph, train_op, logits, is_training = build_model()
    report = assert_batch_norm(graph, [train_op], logits, is_training)
    assert [name for name, _ in report.layers] == ["bn_a", "bn_b"]
    assert report.faults == []


def test_each_fault_has_a_line_with_rule_layer_variable_and_remedy():
    graph, train_op, logits, is_training = build_model(forget=True)
    with pytest.raises(AssertionError) as raised:
        assert_batch_norm(graph, train_ops=[train_op], logits=logits, is_training=is_training)
    head, *lines = str(raised.value).splitlines()
    assert head == "2 batch-normalisation faults"
    for line, layer in zip(lines, ["bn_a", "bn_b"], strict=True):
        assert line.startswith(f"BN101 {layer}: {layer}/moving_mean")
        assert "tf.control_dependencies" in line


def test_a_graph_without_normalisation_does_not_pass_unseen():
    with tf.Graph().as_default() as graph:
        tf.placeholder(tf.float32, [None], name="x")
    with pytest.raises(AssertionError, match="nothing was checked"):
        assert_batch_norm(graph)


def test_a_wrong_name_is_a_user_error():
    graph, _, logits, is_training = build_model()
    with pytest.raises(UserError, match="train_step"):
        assert_batch_norm(graph, "train_step", logits, is_training)


def test_the_fixture_as_the_page_shows_it(pytester, monkeypatch):
    (example,) = re.findall(r"```python\n(def test_.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    twin = example.replace("averages(", "averages_twin(").replace("build_model()", "twin()")
    twin += "\n\ndef twin():\n    return build_model(forget=True)\n"
    pytester.makepyfile(MODEL + "\n\n" + example + "\n\n" + twin)
    # Other plugins are slow to look for; the one here is named, installed or not.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    options = ["-p", "no:cacheprovider", "-p", "alexnet_tf1.pytest_plugin", "-W", "error"]
    result = pytester.runpytest_inprocess(*options)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_moving_averages_twin*",
            "E *AssertionError: 2 batch-normalisation faults",
            "E *BN101 bn_a: bn_a/moving_mean*",
            "E *BN101 bn_b: bn_b/moving_mean*",
        ]
    )
    result.stdout.no_fnmatch_line("*def assert_batch_norm*")  # the user's line is shown, not ours


def test_the_plugin_imports_nothing_of_weight():
    program = (
        "import sys, pytest, alexnet_tf1.pytest_plugin, alexnet_tf1.testing\n"
        "heavy = {'tensorflow', 'numpy', 'google', 'keras'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(not is_installed(), reason="the package is not installed here")
def test_the_plugin_is_where_the_metadata_says():
    (entry,) = importlib.metadata.entry_points(group="pytest11", name="alexnet_tf1")
    assert entry.value == "alexnet_tf1.pytest_plugin"
    assert entry.load().batch_norm_audit
