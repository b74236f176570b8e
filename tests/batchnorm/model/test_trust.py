"""Graphs that reach out of themselves: refused without --trust, in pairs with those that do not."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import tensorflow.compat.v2 as tf2
from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session

from alexnet_tf1.batchnorm.model import trust
from alexnet_tf1.errors import UserError


def graph_of(build):
    """The GraphDef of what `build` makes of the placeholder x."""
    with tf.Graph().as_default() as graph:
        build(tf.placeholder(tf.float32, [None, 3], name="x"))
    return graph.as_graph_def()


def refusal(graph_def, executed=None):
    """What is said of a graph, or None."""
    try:
        trust.refuse_untrusted(graph_def, "m.meta", executed, trust=False)
    except UserError as error:
        return str(error)
    return None


def write_in_a_condition(x):
    write = tf.io.write_file
    return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.group(write("a", "b")), lambda: tf.group(x))


def python_in_a_dataset(x):
    return tf.data.Dataset.from_generator(lambda: iter([1.0]), tf.float32)


def read_in_a_function(x):
    return tf2.function(lambda name: tf.io.read_file(name))(tf.constant("a.txt"))


def pipeline(x):
    """Reads files in a function that a dataset calls, and keeps them in memory."""
    files = tf.data.Dataset.from_tensor_slices(["a.png"])
    return tf.data.make_one_shot_iterator(files.map(tf.io.read_file).cache()).get_next(name="next")


def saver(x):
    tf.get_variable("v", [3])
    return tf.train.Saver()


@pytest.mark.parametrize(
    ("build", "operation", "deed"),
    [
        (lambda x: tf.numpy_function(np.sin, [x], tf.float32), "PyFunc", "runs Python"),
        (lambda x: tf.py_function(np.sin, [x], tf.float32), "EagerPyFunc", "runs Python"),
        (python_in_a_dataset, "(Eager)?PyFunc", "runs Python"),
        (write_in_a_condition, "WriteFile", "writes files"),
        (lambda x: tf2.summary.create_file_writer("logs"), "CreateSummaryFileWriter", "writes"),
        (lambda x: tf2.print(x, output_stream="file://a.txt"), "PrintV2", "writes files"),
        (lambda x: tf.raw_ops.Abort(), "Abort", "ends this process"),
    ],
)
def test_what_writes_or_runs_python_is_refused_even_where_it_would_not_run(build, operation, deed):
    graph_def = graph_of(build)
    found = refusal(graph_def, executed=["x"])
    assert re.match(rf"m\.meta.* holds .+ \({operation}\), which .*{deed}.*--trust", found), found
    trust.refuse_untrusted(graph_def, "m.meta", None, trust=True)


@pytest.mark.parametrize(
    ("build", "operation"),
    [(read_in_a_function, "ReadFile"), (pipeline, "ReadFile|CacheDataset"), (saver, "RestoreV2")],
)
def test_what_reads_is_refused_where_it_would_run(build, operation):
    graph_def = graph_of(build)
    assert re.search(rf"\(({operation})\), which .*--trust", refusal(graph_def))
    assert refusal(graph_def, executed={"x"}) is None


@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf2.print(x),
        lambda x: tf.Print(x, [x]),
        lambda x: tf.debugging.assert_positive(x),
        lambda x: tf.raw_ops.DebugIdentity(input=x),
        lambda x: tf.summary.histogram("x", x),
        lambda x: tf.nn.fixed_unigram_candidate_sampler([[1]], 1, 1, True, 2, unigrams=(1, 1)),
        lambda x: tf.map_fn(tf.nn.relu, x),
    ],
)
def test_what_stays_in_the_graph_runs(build):
    assert refusal(graph_of(build)) is None


def test_an_operation_of_another_library_is_refused_where_it_would_run():
    graph_def = graph_of(tf.identity)
    graph_def.node.add(name="mine", op="MyKernel")
    assert re.search(r"holds mine \(MyKernel\).*--trust", refusal(graph_def))
    assert refusal(graph_def, executed={"x"}) is None


# Names that look like files or the like and are none, or name what another operation must open.
HARMLESS = set(
    """
    RegexFullMatch RegexReplace StaticRegexFullMatch StaticRegexReplace TensorSliceDataset
    ExperimentalSetStatsAggregatorDataset SetStatsAggregatorDataset StatsAggregatorSetSummaryWriter
    SummaryWriter FlushSummaryWriter CloseSummaryWriter ReaderRestoreState ReaderRestoreStateV2
    DeleteRpcFutureResource
    """.split()
)
ARGUMENT = re.compile(
    "file|(^|_)(path|prefix|dir|directory|logdir|uri|urls|pattern|patterns|address)(_|$)|^token$|"
    "data_source|memory_region|descriptor_source|graph_def|mlir_module"
)
OPERATION = re.compile(
    "PyFunc|ReadFile|WriteFile|(?<!Identity)Reader(V2)?$|Rpc|Remote|Abort|FromGraph|MatchingFiles|"
    "Save|Restore|CustomCall|SqlDataset|LMDB|SummaryWriter|Heartbeat|DeserializeIterator"
)


def test_the_tables_name_all_operations_of_the_installed_tensorflow_that_look_like_it():
    buffer = pywrap_tf_session.TF_GetAllOpList()
    registry = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(buffer))
    suspects = {
        op.name
        for op in registry.op
        if OPERATION.search(op.name)
        or any(ARGUMENT.search(a.name) for a in (*op.input_arg, *op.attr))
    }
    listed = {
        op
        for table in (trust.ANYWHERE, trust.WHERE_RUN)
        for ops in table.values()
        for op in ops.split()
    }
    assert suspects - listed == HARMLESS
    assert listed <= {op.name for op in registry.op}
