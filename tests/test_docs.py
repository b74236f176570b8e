"""The code in the documents does what the documents say."""

import re
from pathlib import Path

import tensorflow.compat.v1 as tf

from alexnet_tf1 import audit_graph, layers

ROOT = Path(__file__).parents[1]


def code_blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


def rules(graph, train_op, logits, is_training):
    faults = audit_graph(graph, [train_op], logits=logits, is_training=is_training).faults
    return {fault.rule for fault in faults}


def test_the_bug_in_ten_lines_is_one_and_the_mended_lines_are_not():
    block = code_blocks("docs/gap.md")[0]
    head, mended = re.split(r"# broken\n", block)
    names = {"tf": tf, "layers": layers}
    with tf.Graph().as_default() as graph:
        exec(head, names)
        ends = names["logits"], names["is_training"]
        assert rules(graph, names["train_op"], *ends) == {"BN101"}
        exec(mended, names)
        assert rules(graph, names["train_op"], *ends) == set()


def test_the_older_idiom_is_at_fault_and_its_mended_form_is_not():
    common, broken, mended = code_blocks("docs/gap.md")[1].split("\n\n")
    setting = """
images = tf.placeholder(tf.float32, [None, 8])
is_training = tf.placeholder(tf.bool, [])
x = layers.dense(images, 4, name="dense")
scale, shift = tf.get_variable("scale", [4]), tf.get_variable("shift", [4])
"""
    ending = """
logits = layers.dense(y, 2, name="dense_1")
with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    train_op = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(logits))
"""
    found = []
    for text in (broken, mended):
        names = {"tf": tf, "layers": layers}
        with tf.Graph().as_default() as graph:
            exec(f"{setting}{common}\n{text}{ending}", names)
            found.append(rules(graph, names["train_op"], names["logits"], names["is_training"]))
    assert found == [{"BN201", "BN202", "BN203"}, set()]


def test_the_readme_names_every_command():
    from alexnet_tf1 import cli

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (commands,) = (a for a in cli._parser()._actions if a.metavar == "COMMAND")
    for command in commands.choices:
        assert f"| `{command}" in readme


def test_the_gate_runs_the_readme_s_test_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^    (.*python -m pytest)$", readme, re.M)
    assert f"\n{command}\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")
