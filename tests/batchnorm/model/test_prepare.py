"""Models as they come: what is fed and switched in them, and where they normalise."""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from alexnet_tf1.batchnorm.model.diagnose import diagnose_model
from alexnet_tf1.batchnorm.model.feeds import Examples
from alexnet_tf1.batchnorm.model.repair import recalibrate_model
from alexnet_tf1.errors import UserError

RANDOM = np.random.RandomState(0)
X = RANDOM.normal(5, 3, [60, 6]).astype(np.float32)


def examples(arrays=None, **constants):
    arrays = {"x": X} if arrays is None else arrays
    return Examples(arrays, {k: np.asarray(v) for k, v in constants.items()}, len(X))


def dense(x, name, reuse=None):
    with tf.variable_scope(name, reuse=reuse):
        return tf.matmul(x, tf.get_variable("w", [x.shape[-1], 4]))


def norm(x, switch=None, reuse=None):
    """A hand-written layer, whose averages stay at their initial values."""
    with tf.variable_scope("norm", reuse=reuse):
        mean, variance = (
            tf.get_variable(n, [4], initializer=i(), trainable=False)
            for n, i in (("pop_mean", tf.zeros_initializer), ("pop_var", tf.ones_initializer))
        )
        if switch is not None:
            mean, variance = tf.cond(
                switch,
                lambda: tuple(tf.nn.moments(x, [0])),
                lambda: (tf.identity(mean), tf.identity(variance)),
            )
        return tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3)


def placeholder(size=None):
    return tf.placeholder(tf.float32, [size, 6], name="x")


def switch():
    return tf.placeholder(tf.bool, [], name="is_training")


def saved(folder, build):
    with tf.Graph().as_default(), tf.Session() as session:
        build()
        session.run(tf.global_variables_initializer())
        return tf.train.Saver().save(session, str(folder / "model"))


def head(h):
    return dense(tf.nn.relu(h), "head")


def siamese():
    """Both towers read one average, and each has a batch of its own."""
    one, two = placeholder(), tf.placeholder(tf.float32, [None, 6], name="other")
    towers = [
        head_of_twin(norm(dense(x, "first", reuse), reuse=reuse), reuse)
        for x, reuse in ((one, None), (two, True))
    ]
    tf.reduce_sum(tf.square(towers[0] - towers[1]), 1, name="distance")


def head_of_twin(h, reuse):
    return dense(tf.nn.relu(h), "head", reuse)


def queue():
    held = tf.FIFOQueue(100, [tf.float32], [[6]])
    head(norm(dense(held.dequeue_many(20, name="batch"), "first"), switch()))


def switched_by(make):
    return lambda: head(norm(dense(placeholder(), "first"), make()))


def variable():
    return tf.get_variable("is_training", initializer=True, dtype=tf.bool, trainable=False)


def number():
    return tf.equal(tf.placeholder(tf.int32, [], name="mode"), 0)


def on_the_input():
    x = placeholder()
    mean, variance = (
        tf.get_variable(n, [6], initializer=i(), trainable=False)
        for n, i in (("pop_mean", tf.zeros_initializer), ("pop_var", tf.ones_initializer))
    )
    h = tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3)
    head(norm(dense(h, "first"), switch()))


MODELS = {
    "siamese": (siamese, {"x": X, "other": X[::-1]}, {"logits": "distance"}),
    "queue": (queue, {"batch": X}, {}),
    "variable": (switched_by(variable), {"x": X}, {}),
    "number": (switched_by(number), {"x": X}, {}),
    "input": (on_the_input, {"x": X}, {}),
    "fixed batch": (lambda: head(norm(dense(placeholder(20), "first"), switch())), {"x": X}, {}),
}


def in_both_generations():
    """Each model once in the gate, by turns with ref and with resource variables; then in a soak.

    That the generations differ in nothing but control flow is test_styles' too, of both kinds.
    """
    for turn, (name, model) in enumerate(MODELS.items()):
        for resource, generation in enumerate(("ref, v1", "resource, v2")):
            marks = [] if turn % 2 == resource else [pytest.mark.soak]
            yield pytest.param(*model, bool(resource), id=f"{name}-{generation}", marks=marks)


@pytest.mark.parametrize(("build", "feeds", "more", "resource"), list(in_both_generations()))
def test_a_model_is_measured_and_mended(tmp_path, build, feeds, more, resource):
    (tf.enable_resource_variables if resource else tf.disable_resource_variables)()
    (tf.enable_control_flow_v2 if resource else tf.disable_control_flow_v2)()
    try:
        prefix = saved(tmp_path, build)
    finally:
        tf.enable_resource_variables()
        tf.enable_control_flow_v2()
    before = diagnose_model(prefix, examples(feeds), **more)
    new = str(tmp_path / "mended")
    recalibrate_model(prefix, examples(feeds), out=new, **more)
    after = diagnose_model(new, examples(feeds), **more)
    assert furthest(before, "inference") > 0.5
    assert furthest(before, "batch statistics") > 0.1  # of 20, and of one: something else
    assert furthest(before, "precise") < 1e-3
    assert furthest(after, "inference") < 1e-3


@pytest.mark.parametrize(
    "read",
    [
        lambda mean, squares: (mean, tf.maximum(squares - tf.square(mean), 0.0)),
        lambda mean, deviation: (mean, tf.square(deviation)),
        lambda mean, variance: (mean / 0.3, variance / 0.3),  # as of a zero-debiased one
    ],
    ids=["mean of squares", "deviation", "biased"],
)
def test_averages_are_kept_as_inference_reads_them(tmp_path, read):
    def build():
        h = dense(placeholder(), "first")
        kept = [
            tf.get_variable(n, [4], initializer=tf.ones_initializer(), trainable=False)
            for n in ("one", "two")
        ]
        head(tf.nn.batch_normalization(h, *read(*kept), None, None, 1e-3))

    new = str(tmp_path / "mended")
    prefix = saved(tmp_path, build)
    assert furthest(diagnose_model(prefix, examples()), "inference") > 0.5
    recalibrate_model(prefix, examples(), out=new)
    assert furthest(diagnose_model(new, examples()), "inference") < 1e-3


def furthest(found, mode):
    sizes = {cell["batch_size"] for cell in found["cells"]}
    return max(
        cell["distance"]
        for cell in found["cells"]
        if cell["mode"] == mode and (cell["batch_size"] in (1, 20) or len(sizes) == 1)
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (examples(), r"nothing is fed to keep \[\]; give .* --feed .* --set NAME=VALUE"),
        (examples({"x": X[:, :4]}, keep=1.0), r"--feed x: its shape is \[60, 4\].* \[\?, 6\]"),
        (examples({"x": X.astype(str)}, keep=1.0), "--feed x: its values are .*float32"),
        (examples(keep=[1.0, 1.0]), r"--set keep: its shape is \[2\]"),
        (examples({"z": X}, keep=1.0), "--feed 'z:0' is not in the graph"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, given, message):
    def build():
        h = norm(dense(placeholder(), "first"), switch())
        head(tf.nn.dropout(h, rate=1 - tf.placeholder(tf.float32, [], name="keep")))

    with pytest.raises(UserError, match=message) as raised:
        diagnose_model(saved(tmp_path, build), given)
    assert "\n" not in str(raised.value)


def test_a_switch_that_is_fed_is_held_and_said(tmp_path):
    prefix = saved(tmp_path, switched_by(switch))
    found = diagnose_model(prefix, examples(is_training=True))
    assert any("is_training:0 is held at inference" in note for note in found["notes"])
    assert furthest(found, "inference") > 0.5


def test_a_layer_in_a_loop_is_left_and_named(tmp_path):
    def build():
        def body(n, h):
            return n + 1, norm(dense(h, "again"))

        h = tf.while_loop(lambda n, _: n < 2, body, [0, dense(placeholder(), "first")])[1]
        head(tf.nn.batch_normalization(h, *tf.nn.moments(h, [0]), None, None, 1e-3))

    found = diagnose_model(saved(tmp_path, build), examples())
    assert any("norm keeps its own statistics in every mode" in text for text in found["left_out"])


def test_what_still_depends_on_chance_is_not_written(tmp_path):
    def build():
        h = dense(placeholder(), "first")
        h = tf.nn.batch_normalization(h, *tf.nn.moments(h, [0]), None, None, 1e-3)
        head(tf.nn.dropout(h, rate=0.5))

    folder = str(tmp_path / "served")
    prefix = saved(tmp_path, build)
    with pytest.raises(UserError, match="depends on the rest of its batch, or on chance"):
        recalibrate_model(prefix, examples(), saved_model=folder)
    assert not os.path.exists(folder)
    found = diagnose_model(prefix, examples())
    assert any("inference draws random numbers" in note for note in found["notes"])


def test_values_that_no_checkpoint_holds_are_initial_ones_and_said(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        head(norm(dense(placeholder(), "first"), switch()))
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver(tf.trainable_variables()).save(session, str(tmp_path / "model"))
    found = diagnose_model(prefix, examples())
    assert any(
        "norm/pop_mean and norm/pop_var are not in the checkpoint" in n for n in found["notes"]
    )
    new = str(tmp_path / "mended")
    recalibrate_model(prefix, examples(), out=new)
    assert tf.train.load_checkpoint(new).has_tensor("norm/pop_mean")


def test_a_saved_model_of_tensorflow_2_is_measured_and_mended(tmp_path):
    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf2_variable(RANDOM.normal(size=[6, 4]))
            self.mean, self.variance = tf2_variable(np.zeros(4)), tf2_variable(np.ones(4))

        @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32, "images")])
        def __call__(self, images):
            h = tf.matmul(images, self.kernel)
            h = tf.nn.batch_normalization(h, self.mean, self.variance, None, None, 1e-3)
            return {"logits": tf.nn.relu(h)}

    def tf2_variable(value):
        return tf.Variable(value.astype(np.float32))

    module = Module()
    folder = str(tmp_path / "tf2")
    tf.compat.v2.saved_model.save(module, folder, module.__call__)
    given = examples({"images": X})
    assert furthest(diagnose_model(folder, given), "inference") > 0.5
    new = str(tmp_path / "mended")
    recalibrate_model(folder, given, out=new)
    assert furthest(diagnose_model(new, given), "inference") < 1e-3
