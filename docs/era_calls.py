"""Tries the calls of TF1 programs on the TensorFlow installed; writes the tables of migration.md.

    python docs/era_calls.py             # write the tables into docs/migration.md; needs tf_keras
    python docs/era_calls.py --json      # print what works here, to this process

Each call runs in a graph and a session of its own. It works if it raises nothing. The column "with
tf_keras" is the same in a process with TF_USE_LEGACY_KERAS=1. tests/test_migration.py compares.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

PAGE = Path(__file__).with_name("migration.md")
BEGIN, END = "<!-- written by docs/era_calls.py -->", "<!-- end -->"

# A group's title, or what is tried, the code, and what does the same where it fails. In the code,
# x is a float32 [4, 8, 8, 3], flat a float32 [4, 6], variable() makes a [6] variable, run
# initialises and fetches, folder is empty.
CALLS: list[str | tuple[str, str] | tuple[str, str, str]] = [
    "Graph and session",
    ("tf.placeholder, tf.Session(), feed_dict", """
p = tf.placeholder(tf.bool, [])
with tf.Session() as session: assert session.run(p, feed_dict={p: True})"""),
    ("tf.InteractiveSession, Tensor.eval", "s = tf.InteractiveSession(); flat.eval(); s.close()"),
    ("tf.get_variable, tf.variable_scope, reuse", """
with tf.variable_scope("a"): tf.get_variable("v", [2])
with tf.variable_scope("a", reuse=tf.AUTO_REUSE): run(tf.get_variable("v", [2]))"""),
    ("tf.Variable, tf.assign_add, tf.assign_sub", "run(tf.assign_sub(tf.Variable([2.0]), [1.0]))"),
    ("tf.global_variables_initializer, tf.initialize_all_variables",
     "tf.global_variables_initializer(); tf.initialize_all_variables()"),
    ("tf.get_collection, tf.add_to_collection", "tf.get_collection(tf.GraphKeys.UPDATE_OPS)"),
    ("tf.control_dependencies, tf.group, tf.no_op",
     "with tf.control_dependencies([x]): run(tf.group(tf.no_op()))"),
    ("tf.cond, tf.while_loop", """
run(tf.cond(tf.constant(True), lambda: flat, lambda: -flat))
run(tf.while_loop(lambda i: i < 3, lambda i: i + 1, [0]))"""),
    ("tf.py_func", "run(tf.py_func(lambda a: a, [flat], tf.float32))"),
    ("tf.set_random_seed, tf.random_normal", "tf.set_random_seed(1); run(tf.random_normal([2]))"),
    ("tf.to_float, tf.log, tf.div", "run(tf.div(tf.log(tf.to_float(flat) + 2.0), 3.0))"),
    ("tf.reduce_mean(keep_dims, reduction_indices)",
     "run(tf.reduce_mean(flat, reduction_indices=[0], keep_dims=True))"),
    ("x.shape[-1].value", "x.shape[-1].value",
     "`int(x.shape[-1])`, or `tf.disable_v2_tensorshape()`"),
    ("x.get_shape().as_list()", "x.get_shape().as_list()"),
    ("tf.mul, tf.sub, tf.pack (before 1.0)", "tf.mul; tf.sub; tf.pack",
     "`tf.multiply`, `tf.subtract`, `tf.stack`"),
    "Layers",
    ("tf.layers.conv2d", "run(tf.layers.conv2d(x, 4, 3))", "`layers.conv2d`"),
    ("tf.layers.dense", "run(tf.layers.dense(flat, 4))", "`layers.dense`"),
    ("tf.layers.max_pooling2d", "run(tf.layers.max_pooling2d(x, 2, 2))",
     "`layers.max_pooling2d`, `tf.nn.max_pool2d`"),
    ("tf.layers.average_pooling2d", "run(tf.layers.average_pooling2d(x, 2, 2))",
     "`tf.nn.avg_pool2d`"),
    ("tf.layers.flatten", "run(tf.layers.flatten(x))", "`layers.flatten`, `tf.reshape`"),
    ("tf.layers.batch_normalization", "run(tf.layers.batch_normalization(x, training=True))",
     "`layers.batch_normalization`"),
    ("tf.layers.dropout", "run(tf.layers.dropout(flat, training=True))", "`tf.nn.dropout`"),
    ("tf.layers.conv2d_transpose", "run(tf.layers.conv2d_transpose(x, 4, 3))",
     "`tf.nn.conv2d_transpose`"),
    ("tf.layers.separable_conv2d", "run(tf.layers.separable_conv2d(x, 4, 3))",
     "`tf.nn.separable_conv2d`"),
    ("tf.layers.Dense (the classes)", "run(tf.layers.Dense(4)(flat))", "`layers.dense`"),
    ("tf.keras.layers.Dense in a tf.Graph", "run(tf.keras.layers.Dense(4)(flat))"),
    ("tf.keras.layers.BatchNormalization()(x, training=True)",
     "run(tf.keras.layers.BatchNormalization()(x, training=True))"),
    ("the same, training=placeholder", """
tf.keras.layers.BatchNormalization()(x, training=tf.placeholder(tf.bool, []))""",
     "`layers.batch_normalization`"),
    ("its layer.updates", """
layer = tf.keras.layers.BatchNormalization(); layer(x, training=True)
assert len(layer.updates) == 2""", "`layers.batch_normalization`, with UPDATE_OPS"),
    ("tf.keras.backend.get_session, learning_phase",
     "tf.keras.backend.get_session(); tf.keras.backend.learning_phase()",
     "`tf.Session`, a placeholder"),
    ("tf.contrib.layers, tf.contrib.slim", "tf.contrib.layers; tf.contrib.slim",
     "`layers`"),
    ("tf.nn.conv2d, tf.nn.max_pool, tf.nn.lrn", """
run(tf.nn.lrn(tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")))
run(tf.nn.conv2d(x, tf.ones([3, 3, 3, 4]), strides=[1, 1, 1, 1], padding="SAME"))"""),
    ("tf.nn.moments, tf.nn.batch_normalization, tf.nn.fused_batch_norm", """
run(tf.nn.batch_normalization(flat, *tf.nn.moments(flat, [0]), None, None, 1e-3))
run(tf.nn.fused_batch_norm(x, tf.ones([3]), tf.zeros([3]))[0])"""),
    ("tf.nn.dropout(keep_prob)", "run(tf.nn.dropout(flat, keep_prob=0.5))"),
    ("tf.nn.rnn_cell.BasicLSTMCell, tf.nn.dynamic_rnn",
     "run(tf.nn.dynamic_rnn(tf.nn.rnn_cell.BasicLSTMCell(5), x[0], dtype=tf.float32)[0])",
     "`tf.while_loop` by hand"),
    ("tf.nn.sparse_softmax_cross_entropy_with_logits, tf.losses", """
y = tf.zeros([4], tf.int64)
run(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=flat))
run(tf.losses.sparse_softmax_cross_entropy(y, flat)); run(tf.losses.get_total_loss())"""),
    ("tf.glorot_uniform_initializer, tf.truncated_normal_initializer", """
tf.get_variable("a", [2, 2], initializer=tf.glorot_uniform_initializer())
tf.get_variable("b", [2], initializer=tf.truncated_normal_initializer(stddev=0.1))"""),
    ("tf.metrics.accuracy", "tf.metrics.accuracy(tf.zeros([4]), flat[:, 0])"),
    "Training",
    ("tf.train.AdamOptimizer, MomentumOptimizer, ...", """
loss = tf.reduce_sum(variable())
for optimizer in (tf.train.AdamOptimizer(), tf.train.MomentumOptimizer(0.1, 0.9)):
    run(optimizer.minimize(loss))"""),
    ("Optimizer.compute_gradients, apply_gradients", """
optimizer = tf.train.GradientDescentOptimizer(0.1)
run(optimizer.apply_gradients(optimizer.compute_gradients(tf.reduce_sum(variable()))))"""),
    ("tf.gradients, tf.clip_by_global_norm",
     "run(tf.clip_by_global_norm(tf.gradients(tf.reduce_sum(x), [x]), 1.0)[0])"),
    ("tf.train.exponential_decay, get_or_create_global_step",
     "run(tf.train.exponential_decay(0.1, tf.train.get_or_create_global_step(), 10, 0.9))"),
    ("tf.train.ExponentialMovingAverage",
     "run(tf.train.ExponentialMovingAverage(0.9).apply([flat]))"),
    ("tf.train.Saver, latest_checkpoint, NewCheckpointReader", """
variable(); saver = tf.train.Saver(); session = tf.Session()
session.run(tf.global_variables_initializer()); saver.save(session, folder + "/c")
saver.restore(session, tf.train.latest_checkpoint(folder))
tf.train.NewCheckpointReader(folder + "/c").get_variable_to_shape_map()"""),
    ("tf.train.import_meta_graph, export_meta_graph", """
variable(); meta = tf.train.export_meta_graph()
tf.train.import_meta_graph(meta, import_scope="again")"""),
    ("tf.train.MonitoredTrainingSession and hooks", """
tf.train.get_or_create_global_step()
hooks = [tf.train.StopAtStepHook(last_step=1)]
with tf.train.MonitoredTrainingSession(hooks=hooks) as session: session.run(flat)"""),
    ("tf.train.Coordinator, start_queue_runners, batch", """
batch = tf.train.batch([tf.constant(1.0)], 2)
with tf.Session() as session:
    coordinator = tf.train.Coordinator()
    threads = tf.train.start_queue_runners(session, coordinator)
    session.run(batch); coordinator.request_stop(); coordinator.join(threads)"""),
    ("tf.FIFOQueue, tf.train.string_input_producer", """
queue = tf.FIFOQueue(2, tf.float32); run([queue.enqueue(1.0), queue.dequeue()])
tf.train.string_input_producer(["a"])"""),
    ("tf.estimator.Estimator", "tf.estimator.Estimator",
     "a session loop (`alexnet_tf1/train.py`); removed in 2.16"),
    ("tf.contrib.training, tf.contrib.learn", "tf.contrib.training; tf.contrib.learn",
     "`tf.train`, a session loop"),
    "Data and files",
    ("tf.data.Dataset, make_one_shot_iterator", """
run(tf.data.Dataset.from_tensor_slices([1, 2]).batch(2).make_one_shot_iterator().get_next())"""),
    ("tf.data.make_initializable_iterator, Iterator.from_structure", """
data = tf.data.Dataset.range(3); i = tf.data.make_initializable_iterator(data)
run([i.initializer]); tf.data.Iterator.from_structure(tf.int64, [])"""),
    ("tf.TFRecordReader, tf.python_io.TFRecordWriter", """
with tf.python_io.TFRecordWriter(folder + "/r") as writer: writer.write(b"a")
tf.TFRecordReader()"""),
    ("tf.read_file, tf.decode_csv, tf.image.resize_images", """
tf.read_file("a"); run(tf.decode_csv(tf.constant(["1,2"]), [[0], [0]]))
run(tf.image.resize_images(x, [4, 4]))"""),
    ("tf.gfile", "tf.gfile.MakeDirs(folder + '/a'); assert tf.gfile.Exists(folder + '/a')"),
    ("tf.summary.scalar, merge_all, FileWriter", """
tf.summary.scalar("a", flat[0, 0])
writer = tf.summary.FileWriter(folder, tf.get_default_graph())
writer.add_summary(run(tf.summary.merge_all()), 1); writer.close()"""),
    ("tf.saved_model.simple_save, loader.load", """
variable()
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    tf.saved_model.simple_save(session, folder + "/s", {"x": x}, {"y": flat})
    tf.saved_model.loader.load(session, ["serve"], folder + "/s")"""),
    ("tf.graph_util.convert_variables_to_constants", """
variable()
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    tf.graph_util.convert_variables_to_constants(session, session.graph_def, ["v/read"])"""),
    ("tf.examples.tutorials.mnist", "tf.examples.tutorials.mnist", "read the files (`cifar10.py`)"),
    "Program",
    ("tf.app.run", """
try: tf.app.run(lambda argv: None, argv=["program"])
except SystemExit: pass"""),
    ("tf.app.flags, tf.flags", """
flags = tf.flags.FlagValues()
tf.app.flags.DEFINE_integer("steps", 3, "steps", flag_values=flags)"""),
    ("tf.logging", "tf.logging.info('a')"),
    ("tf.ConfigProto, tf.GPUOptions",
     "tf.ConfigProto(gpu_options=tf.GPUOptions(allow_growth=True))"),
    ("tf.device, tf.train.replica_device_setter", """
with tf.device("/cpu:0"): run(tf.constant(1.0))
tf.train.replica_device_setter(1)"""),
    ("tf.contrib.* (all else)", "tf.contrib", "nothing in TensorFlow; gone with 2.0"),
]  # fmt: skip


def measure() -> dict[str, str]:
    """Tries every call.

    Returns:
      By the call's label: "works", or "no" and the kind of error.
    """
    import tensorflow.compat.v1 as tf

    verbosity = tf.logging.get_verbosity()
    tf.logging.set_verbosity(tf.logging.FATAL)
    found = {}
    try:
        # tf.app.run would point the process's crash reports elsewhere.
        with warnings.catch_warnings(), mock.patch("faulthandler.enable"):
            warnings.simplefilter("ignore")  # nearly all of this is deprecated
            for entry in CALLS:
                if not isinstance(entry, str):
                    found[entry[0]] = _tried(tf, entry[1])
    finally:
        tf.logging.set_verbosity(verbosity)
    return found


def _tried(tf: Any, code: str) -> str:
    """What comes of one piece of code."""

    def run(fetches: Any) -> Any:
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            return session.run(fetches)

    with tf.Graph().as_default(), tempfile.TemporaryDirectory() as folder:
        names = {
            "tf": tf,
            "run": run,
            "x": tf.zeros([4, 8, 8, 3]),
            "flat": tf.ones([4, 6]),
            "variable": lambda: tf.get_variable("v", [6], use_resource=False),
            "folder": folder,
        }
        try:
            exec(code, names)
        except Exception as error:
            return f"no ({type(error).__name__})"
    return "works"


def tables(stock: dict[str, str], legacy: dict[str, str], version: str) -> str:
    """The tables in markdown.

    Args:
      stock: what measure() found with Keras 3.
      legacy: what it found with TF_USE_LEGACY_KERAS=1.
      version: of TensorFlow.

    Returns:
      A table a group, without a line break at the end.
    """
    lines = []
    for entry in CALLS:
        if isinstance(entry, str):
            lines += [
                "",
                f"| {entry} | TensorFlow {version} | with tf_keras | where it fails |",
                "|---|---|---|---|",
            ]
            continue
        label, instead = entry[0], entry[2] if len(entry) == 3 else ""
        here = "" if stock[label] == "works" else instead
        lines.append(f"| `{label}` | {stock[label]} | {legacy[label]} | {here} |")
    return "\n".join(lines[1:])


def main() -> None:
    """Writes the page, or prints what works."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.argv[1:] == ["--json"]:
        print(json.dumps(measure()))
        return
    process = subprocess.run(
        [sys.executable, __file__, "--json"],
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    import tensorflow

    version = ".".join(tensorflow.__version__.split(".")[:2])
    text = tables(measure(), json.loads(process.stdout), version)
    page = PAGE.read_text(encoding="utf-8")
    written = re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n\n{text}\n\n{END}", page, flags=re.S)
    PAGE.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
