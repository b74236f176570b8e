"""The doctor's rules and the spellings it knows, each right checkpoint with its bad twins."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from support import legacy_keras
from support.saved import layer, save

from alexnet_tf1.batchnorm.doctor import examine_checkpoint

EMA = "ExponentialMovingAverage"
# name of the layer, names of its mean and variance, names of its gamma and beta, where the
# variance starts
SPELLINGS = {
    "tf.layers": ("batch_normalization_1", "{}/moving_mean {}/moving_variance", "{}/gamma {}/beta"),
    "slim": ("vgg/conv1/BatchNorm", "{}/moving_mean {}/moving_variance", "{}/beta"),
    "no gamma, no beta": ("net/norm", "{}/moving_mean {}/moving_variance", ""),
    "tensorpack": ("conv0/bn", "{}/mean/EMA {}/variance/EMA", "{}/gamma {}/beta"),
    "PyTorch": ("layer1.0.bn1", "{}.running_mean {}.running_var", "{}.weight {}.bias"),
    "hand-written": ("conv2/bn", "{}/pop_mean {}/pop_var", "{}/scale {}/beta"),
    "in the name": ("net/bn1", "{}_moving_mean {}_moving_variance", "{}_gamma {}_beta"),
    "Caffe": ("bn_conv1", "{}/mean {}/variance", "{}/scale {}/offset"),
    "sonnet 1": ("net/batch_norm", "{}/moving_mean {}/moving_variance", "{}/gamma {}/beta"),
    "Keras objects": (
        "layer_with_weights-3",
        "{0}/moving_mean/.ATTRIBUTES/VARIABLE_VALUE {0}/moving_variance/.ATTRIBUTES/VARIABLE_VALUE",
        "{0}/gamma/.ATTRIBUTES/VARIABLE_VALUE {0}/beta/.ATTRIBUTES/VARIABLE_VALUE",
    ),
}
ZERO_START = {
    "this project": (
        "batch_normal",
        f"{{}}/moments/Squeeze/{EMA} {{}}/moments/Squeeze_1/{EMA}",
        "{}/scale {}/shift",
    ),
    "scope twice": (
        "conv1/bn",
        f"{{0}}/{{0}}/moments/Squeeze/{EMA} {{0}}/{{0}}/moments/Squeeze_1/{EMA}",
        "{}/gamma {}/beta",
    ),
    "TensorFlow 1.1": (
        "conv1/bn",
        f"{{0}}/{{0}}/moments/moments_1/mean/{EMA} {{0}}/{{0}}/moments/moments_1/variance/{EMA}",
        "{}/gamma {}/beta",
    ),
    "fused": (
        "net/bn",
        f"{{}}/FusedBatchNormV3/{EMA} {{}}/FusedBatchNormV3/{EMA}_1",
        "{}/gamma {}/beta",
    ),
    "the original": (
        "moments_1",
        f"{{}}/Squeeze/{EMA} {{}}/Squeeze_1/{EMA}",
        "Variable_2 Variable_3",
    ),
    "sonnet 2": ("bn", "{}/moving_mean/average {}/moving_variance/average", "{}/scale {}/offset"),
}
ALL = [(*names, 1.0) for names in SPELLINGS.values()] + [
    (*names, 0.0) for names in ZERO_START.values()
]
IDS = [*SPELLINGS, *ZERO_START]
every_spelling = pytest.mark.parametrize(("name", "spelling", "affine", "start"), ALL, ids=IDS)


def examine(tmp_path, values, **options):
    return examine_checkpoint(save(tmp_path / "model.ckpt", values, **options))


def found(report):
    return [(fault.rule, fault.layer) for fault in report.faults]


@every_spelling
def test_a_trained_layer_is_no_fault(tmp_path, name, spelling, affine, start):
    report = examine(tmp_path, layer(name, spelling, affine))
    assert found(report) == []
    assert [one.name for one in report.layers] == [name]
    averages = report.to_json()["layers"][0]["moving_averages"]
    assert averages == [part.format(name) for part in spelling.split()]


@every_spelling
def test_a_layer_never_updated(tmp_path, name, spelling, affine, start):
    values = layer(name, spelling, affine, mean=[0, 0, 0], variance=[start] * 3)
    report = examine(tmp_path, values | {"global_step": np.int64(2500)})
    assert found(report) == [("CK101", name)]
    assert f"{name}: " not in report.faults[0].message  # the line that is printed begins with it
    assert f"is all {start:g} after 2500 steps: never updated" in report.faults[0].message
    assert "\n" not in report.faults[0].message


@every_spelling
def test_a_variance_that_is_none(tmp_path, name, spelling, affine, start):
    for bad in (-1e-6, np.nan, np.inf):
        values = layer(name, spelling, affine, variance=[0.5, bad, 0.5])
        assert found(examine(tmp_path, values)) == [("CK103", name)]


@every_spelling
def test_a_statistic_that_was_not_saved(tmp_path, name, spelling, affine, start):
    if name in ("conv2/bn", "bn_conv1"):
        pytest.skip("pop_mean or mean alone is anybody's word")
    report = examine(tmp_path, layer(name, spelling, affine, variance=None))
    assert found(report) == [("CK102", name)]
    assert "without its variance" in report.faults[0].message


@pytest.mark.parametrize(
    ("name", "affine"),
    [
        ("batch_normalization", "{}/gamma {}/beta"),
        ("vgg/conv1/BatchNorm", "{}/beta"),
        ("conv0/bn", "{}/gamma {}/beta"),
        ("batch_normal_1", "{}/scale {}/shift"),
        ("resnet/tpu_batch_normalization_3", "{}/gamma {}/beta"),
        ("net/bn1", "{}_gamma {}_beta"),
    ],
)
def test_trainable_variables_alone_were_saved(tmp_path, name, affine):
    values = layer(name, affine=affine, mean=None, variance=None)
    slots = {f"{key}/Adam": value for key, value in values.items()}
    report = examine(tmp_path, {"conv1/kernel": np.ones([3, 3, 1, 3])} | values | slots)
    assert found(report) == [("CK102", name)]
    assert report.to_json()["layers"] == [{"name": name, "moving_averages": [], "statistics": []}]
    assert found(examine(tmp_path, layer(name, affine=affine))) == []


@pytest.mark.parametrize(
    "name",
    [
        "bert/encoder/layer_0/output/LayerNorm",
        "layer_normalization_2",
        "decoder/ln_1",
        "generator/InstanceNorm",
        "block1/group_norm",
        "conv1/in",
        "generator/batch_instance_norm",
    ],
)
def test_other_normalisations_have_no_statistics_to_miss(tmp_path, name):
    other = layer(name, mean=None, variance=None)
    report = examine(tmp_path, other | layer("batch_normalization"))
    assert found(report) == []
    assert [one.name for one in report.layers] == ["batch_normalization"]
    assert report.notes == []  # the name leaves nothing unsure


def test_a_name_that_says_nothing_is_judged_by_its_twins(tmp_path):
    bare = layer("block2/norm", mean=None, variance=None)
    report = examine(tmp_path, bare)
    assert found(report) == []
    assert "block2/norm" in report.notes[-1]
    assert "layer, instance or group normalisation" in report.notes[-1]
    report = examine(tmp_path, bare | layer("block1/norm"))
    assert found(report) == [("CK102", "block2/norm")]


def test_keras_objects_are_saved_whole(tmp_path):
    """layer_with_weights-4 of a Keras model says nothing; its checkpoints leave nothing out."""
    whole = SPELLINGS["Keras objects"]
    bare = layer("layer_with_weights-4", *whole[1:], mean=None, variance=None)
    assert found(examine(tmp_path, bare | layer(*whole))) == []


def test_slots_and_averages_of_weights_are_no_layers(tmp_path):
    values = layer("bn")
    for key in [*values, "conv1/kernel"]:
        for suffix in ("Adam", "Adam_1", "Momentum", EMA, "m", "v"):
            values[f"{key}/{suffix}"] = np.zeros(3, np.float32)
        for prefix in ("training/Adam", "RMSprop/momentum", "Adam/v"):
            values[f"{prefix}/{key}"] = np.zeros(3, np.float32)
    report = examine(tmp_path, values)
    assert found(report) == []
    assert [one.name for one in report.layers] == ["bn"]
    assert len(report.layers[0].statistics) == 2


def test_names_that_are_no_batch_normalisation(tmp_path):
    three = np.float32([0, 0, 0])
    values = {
        "normalization/mean": three,
        "normalization/variance": three + 1,
        "policy/mean": three,
        "policy/variance": three + 1,
        "policy/mean/ExponentialMovingAverage": three,
        "policy/variance/ExponentialMovingAverage": three,
        "policy/log_scale": three,
        "beta": np.float32(1),
        "Adam/beta_1": np.float32(0.9),
        "total_loss/avg": np.float32(0),
        "Mean/ExponentialMovingAverage": np.float32(0),
        "accuracy/running_mean_of_hits": three,
    }
    report = examine(tmp_path, values)
    assert found(report) == []
    assert report.layers == []
    assert "no batch normalisation was recognised" in report.notes[0]


@pytest.mark.parametrize(
    ("mean", "variance", "rules"),
    [
        ([0, 0, 0], [1, 1, 1], ["CK101"]),
        ([0, 0, 0], [0.9, 1.4, 0.8], []),  # inputs of mean zero
        ([0, 0, 0], [0.36, 0.36, 0.36], []),  # dead channels: 1 decays
        ([0, 0, 0], [0, 0, 0], []),  # dead channels, long enough
        ([0.1, 0, 0], [1, 1, 1], ["CK101"]),  # the variance's update was left out
        ([0, 0, 0.1], [1, 1, 0.9], []),
        ([np.nan, 0, 0], [1, 1, 0.9], ["CK103"]),
    ],
)
def test_what_counts_as_never_updated(tmp_path, mean, variance, rules):
    report = examine(tmp_path, layer("bn", mean=mean, variance=variance))
    assert [fault.rule for fault in report.faults] == rules
    if mean == [0, 0, 0] and not rules:
        assert any("bn/moving_mean is all 0" in note for note in report.notes)


@pytest.mark.parametrize(
    ("counter", "spelling"),
    [
        (
            f"fc/moments/Squeeze/{EMA}/local_step",
            f"{{}}/moments/Squeeze/{EMA} {{}}/moments/Squeeze_1/{EMA}",
        ),
        ("fc/moving_mean/counter", "{}/moving_mean/average {}/moving_variance/average"),
        ("fc/num_batches_tracked", "{}/running_mean {}/running_var"),
        ("fc/fc/moving_mean/local_step", "{}/moving_mean {}/moving_variance"),
    ],
)
def test_updates_are_counted_where_the_checkpoint_counts(tmp_path, counter, spelling):
    values = layer("fc", spelling, affine="")
    report = examine(tmp_path, values | {counter: np.float32(40)})
    assert found(report) == []
    assert report.layers[0].statistics[0].updates == 40
    start = 1.0 if "average" not in spelling and "Squeeze" not in spelling else 0.0
    values = layer("fc", spelling, affine="", mean=[0] * 3, variance=[start] * 3)
    report = examine(tmp_path, values | {counter: np.float32(0)})
    assert found(report) == [("CK101", "fc")]
    assert report.layers[0].statistics[0].updates == 0


def test_a_checkpoint_from_before_the_first_step(tmp_path):
    values = layer("bn", mean=[0] * 3, variance=[1] * 3) | {"global_step": np.int64(0)}
    report = examine(tmp_path, values)
    assert found(report) == [("CK101", "bn")]
    assert "training has not begun" in report.faults[0].message


@pytest.mark.parametrize(
    ("more", "has_begun"),
    [
        ({"global_step": np.int64(0)}, False),
        ({}, True),  # nothing tells, and then it is not said
        ({"global_step": np.int64(0), "beta2_power": np.float32(0.999**2501)}, True),
        ({"global_step": np.int64(0), "beta2_power": np.float32(0.999)}, False),
        ({"global_step": np.int64(0), "bn/gamma/Adam": np.float32([0, 0.1, 0.2])}, True),
        ({"global_step": np.int64(0), "bn/gamma/Adam": np.zeros(3, np.float32)}, False),
        ({"bn/gamma/Momentum": np.zeros(3, np.float32)}, False),
        ({"bn/gamma/RMSProp": np.ones(3, np.float32)}, False),
        ({"bn/gamma/RMSProp": np.float32([0.9, 0.8, 0.9])}, True),
    ],
)
def test_training_has_begun_if_a_counter_a_power_or_a_slot_has_moved(tmp_path, more, has_begun):
    report = examine(tmp_path, layer("bn", mean=[0] * 3, variance=[1] * 3) | more)
    assert found(report) == [("CK101", "bn")]
    assert ("training has not begun" not in report.faults[0].message) == has_begun
    assert "steps" not in report.faults[0].message  # none is guessed from a beta2


@pytest.mark.parametrize(
    ("statistics", "faults"),
    [
        ("moving_mean moving_mean_1 moving_variance_1", []),
        ("moving_mean moving_mean_1 moving_variance", []),
        ("moving_mean moving_mean_1", [("CK102", "bn")]),
        ("moving_mean moving_variance moving_mean_1 gamma_1", [("CK102", "bn")]),
    ],
)
def test_a_statistic_left_over_beside_the_pair_in_use(tmp_path, statistics, faults):
    values = {f"bn/{name}": np.float32([0.5, 0.6]) for name in ("gamma", "beta")}
    values |= {f"bn/{name}": np.float32([0.5, 0.6]) for name in statistics.split()}
    report = examine(tmp_path, values)
    assert found(report) == faults


def test_only_the_faulty_layer_is_named(tmp_path):
    values = {}
    for number in range(4):
        values |= layer(f"batch_normalization_{number}")
    values |= layer("batch_normalization_1", mean=[0] * 3, variance=[1] * 3)
    values |= layer("batch_normalization_2", variance=[-1, 1, 1])
    del values["batch_normalization_3/moving_mean"]
    report = examine(tmp_path, values)
    assert sorted(found(report)) == [
        ("CK101", "batch_normalization_1"),
        ("CK102", "batch_normalization_3"),
        ("CK103", "batch_normalization_2"),
    ]


def test_renorm_and_accumulators_are_understood(tmp_path):
    values = layer("bn") | {
        "bn/renorm_mean": np.zeros(3, np.float32),
        "bn/renorm_stddev": np.ones(3, np.float32),
        "bn/renorm_mean_weight": np.float32(0),
    }
    assert [s.role for s in examine(tmp_path, values).layers[0].statistics] == [
        "mean",
        "variance",
        "renorm_mean",
        "renorm_stddev",
    ]
    big_gan = layer("G/bn0", "{}/accu/accu_mean {}/accu/accu_variance", mean=[0] * 3)
    assert found(examine(tmp_path, big_gan)) == []


def test_json_is_strict_and_measures(tmp_path):
    values = layer("bn", mean=[np.nan] * 3, variance=[1, -np.inf, 3])
    text = json.dumps(examine(tmp_path, values).to_json(), allow_nan=False)
    report = json.loads(text)
    assert list(report) == ["checkpoint", "layers", "faults", "notes"]
    assert set(report["faults"][0]) == {"rule", "layer", "message"}
    mean, variance = report["layers"][0]["statistics"]
    assert (mean["minimum"], mean["mean"], mean["finite"]) == (None, None, False)
    assert (variance["minimum"], variance["maximum"], variance["mean"]) == (1, 3, 2)
    assert (variance["not_finite"], variance["negative"]) == (1, 1)
    assert variance["fraction_initial"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("dtype", [np.float16, tf.bfloat16.as_numpy_dtype, np.float64])
def test_every_float(tmp_path, dtype):
    values = {key: np.asarray(value, dtype) for key, value in layer("bn").items()}
    assert found(examine(tmp_path, values)) == []
    values["bn/moving_variance"] = np.asarray([1, -2, 3], dtype)
    assert found(examine(tmp_path, values)) == [("CK103", "bn")]


@pytest.mark.parametrize("update_ops", ["control", "none"])
def test_this_projects_own_network(tmp_path, update_ops):
    from alexnet_tf1 import build_alexnet

    with tf.Graph().as_default(), tf.Session() as session:
        net = build_alexnet(update_ops=update_ops, fc_batch_norm="ema")
        session.run(tf.global_variables_initializer())
        images = np.random.RandomState(0).uniform(-1, 1, [4, 3072])
        feed = {net.images: images, net.labels: [0, 1, 2, 3], net.is_training: True}
        session.run(net.train_op, feed)
        report = examine_checkpoint(tf.train.Saver().save(session, str(tmp_path / "model")))
    names = [norm.name for norm in net.norms]
    assert sorted(one.name for one in report.layers) == sorted(names)
    assert sorted(found(report)) == (
        [("CK101", name) for name in sorted(names)]
        if update_ops == "none"
        # A single step leaves most of the initial value; that of the others is debiased.
        else [("CK104", name) for name in ("batch_normalization", "batch_normalization_1")]
    )


def test_the_real_tf_layers(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import sys, tensorflow.compat.v1 as tf\n"
        "tf.disable_v2_behavior()\n"
        "x = tf.random_normal([2, 4, 4, 3])\n"
        "y = tf.layers.batch_normalization(x, training=True)\n"
        "tf.layers.batch_normalization(y, training=True, renorm=True, scale=False)\n"
        "with tf.Session() as session:\n"
        "    session.run(tf.global_variables_initializer())\n"
        "    tf.train.Saver().save(session, sys.argv[1] + '/never')\n"
        "    session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))\n"
        "    tf.train.Saver().save(session, sys.argv[1] + '/right')\n"
        "    tf.train.Saver(tf.trainable_variables()).save(session, sys.argv[1] + '/bare')\n"
    )
    legacy_keras.run(script, tmp_path)
    names = ["batch_normalization", "batch_normalization_1"]
    assert found(examine_checkpoint(tmp_path / "never")) == [("CK101", name) for name in names]
    assert found(examine_checkpoint(tmp_path / "right")) == []
    assert found(examine_checkpoint(tmp_path / "bare")) == [("CK102", name) for name in names]
