"""The network against the same network written with the real tf.layers, and its options."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from alexnet_tf1 import build_alexnet
from alexnet_tf1.data.batches import SCALED

EARLY = 8  # steps


def train(given, steps=60, **options):
    """Steps from the given weights; the same names as oracle.train_reference.

    Where only equality is asked for EARLY will do: runs that differ at all are far apart by then.
    """
    found = {}
    with tf.Graph().as_default(), tf.Session() as session:
        net = build_alexnet(**options)
        trainable = tf.trainable_variables()
        found["names"] = [v.op.name for v in trainable]
        session.run(tf.global_variables_initializer())
        for number, variable in enumerate(trainable):
            variable.load(given[f"weights/{number}"], session)
        losses = []
        for pixels, labels in zip(given["pixels"][:steps], given["labels"][:steps], strict=True):
            feed = {net.images: SCALED[pixels], net.labels: labels, net.is_training: True}
            losses.append(session.run([net.loss, net.train_op], feed)[0])
        found["losses"] = np.array(losses)
        for mode in (False, True):
            feed = {net.images: SCALED[given["pixels"][0]], net.is_training: mode}
            found[f"logits_{mode}"] = session.run(net.logits, feed)
        found["trained"] = session.run(trainable)
        found["averages"] = {
            v.op.name: session.run(v) for v in tf.global_variables() if "moving" in v.op.name
        }
    return found


@pytest.fixture(scope="module")
def ours(given):
    return train(given)


@pytest.fixture(scope="module")
def ours_early(given):
    return train(given, steps=EARLY)


def test_every_loss_equals_the_real_layers(ours, oracle):
    np.testing.assert_array_equal(ours["losses"], oracle["network/losses"])
    assert len(ours["losses"]) == 60
    assert np.ptp(ours["losses"]) > 0.1  # something was learnt: equal is not equally constant


@pytest.mark.parametrize("is_training", [False, True])
def test_logits_equal_the_real_layers(ours, oracle, is_training):
    np.testing.assert_array_equal(
        ours[f"logits_{is_training}"], oracle[f"network/logits_{is_training}"]
    )


def test_trained_weights_and_averages_equal_the_real_layers(ours, oracle):
    for number, value in enumerate(ours["trained"]):
        np.testing.assert_array_equal(value, oracle[f"network/trained/{number}"])
    assert len(ours["averages"]) == 4
    for name, value in ours["averages"].items():
        np.testing.assert_array_equal(value, oracle[f"network/averages/{name}"])


def test_variables_carry_the_names_of_tf_layers(ours, oracle):
    hand_written = {"scale", "shift", "scale_1", "shift_1"}
    theirs = [n for n in oracle["network/names"].tolist() if n not in hand_written]
    own = [n for n in ours["names"] if not n.startswith("batch_normal/")]
    assert [n for n in own if not n.startswith("batch_normal_1/")] == theirs


def test_parameters_are_those_of_the_original():
    with tf.Graph().as_default():
        build_alexnet()
        trainable = {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}
        averages = [v.op.name for v in tf.global_variables() if "moving" in v.op.name]
    assert len(trainable) == 24
    assert sum(int(np.prod(shape)) for shape in trainable.values()) == 3_345_162
    assert trainable["conv1/kernel"] == [3, 3, 3, 48]
    assert trainable["dense/kernel"] == [1536, 1024]
    assert averages == [
        "batch_normalization/moving_mean",
        "batch_normalization/moving_variance",
        "batch_normalization_1/moving_mean",
        "batch_normalization_1/moving_variance",
    ]


def test_forgetting_the_update_ops_changes_the_averages_and_nothing_else(ours_early, given):
    forgotten = train(given, steps=EARLY, update_ops="none")
    np.testing.assert_array_equal(forgotten["losses"], ours_early["losses"])
    for kept, lost in zip(ours_early["trained"], forgotten["trained"], strict=True):
        np.testing.assert_array_equal(kept, lost)
    for name, value in forgotten["averages"].items():
        assert (value == (1 if name.endswith("variance") else 0)).all()
        assert (ours_early["averages"][name] != value).all()


def test_ema_trains_like_the_original_and_differs_in_inference(ours_early, given):
    ema = train(given, steps=EARLY, fc_batch_norm="ema")
    np.testing.assert_array_equal(ema["losses"], ours_early["losses"])
    np.testing.assert_array_equal(ema["logits_True"], ours_early["logits_True"])
    assert np.abs(ema["logits_False"] - ours_early["logits_False"]).max() > 0.01


def test_ref_and_resource_variables_give_the_same_bits(ours, given):
    enabled = tf.resource_variables_enabled()  # in `ours`; here the other kind
    (tf.disable_resource_variables if enabled else tf.enable_resource_variables)()
    try:
        found = train(given, steps=EARLY)
    finally:
        (tf.enable_resource_variables if enabled else tf.disable_resource_variables)()
    np.testing.assert_array_equal(found["losses"], ours["losses"][:EARLY])


def test_the_seed_fixes_every_variant_s_initial_weights():
    def initial(seed, **options):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(seed)
            build_alexnet(**options)
            session.run(tf.global_variables_initializer())
            return session.run(tf.trainable_variables())

    first, variant = initial(3), initial(3, fc_batch_norm="ema", update_ops="none")
    other = initial(4)
    for a, b in zip(first, variant, strict=True):
        np.testing.assert_array_equal(a, b)
    kernels = [n for n, a in enumerate(first) if a.ndim > 1]
    assert len(kernels) == 8
    assert all((first[n] != other[n]).any() for n in kernels)


def test_without_a_seed_weights_differ_from_graph_to_graph():
    def kernel():
        with tf.Graph().as_default(), tf.Session() as session:
            build_alexnet()
            session.run(tf.global_variables_initializer())
            return session.run(tf.trainable_variables()[0])

    assert (kernel() != kernel()).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update_ops": "on"}, "update_ops='on' is not one of 'control', 'none'"),
        ({"fc_batch_norm": None}, "fc_batch_norm=None is not one of 'batch', 'ema'"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        build_alexnet(**options)
