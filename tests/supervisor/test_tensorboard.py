"""TensorBoard's event file, and that the measurements for it change no bit of the training."""

import dataclasses
import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image
from support.small_network import make_small
from support.small_set import SMALL

from alexnet_tf1 import layers, norms
from alexnet_tf1.batchnorm.measure import BatchMoments
from alexnet_tf1.cli import main as cli
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.dataset import Split
from alexnet_tf1.reporting.compare import OF_LOGGING
from alexnet_tf1.supervisor import periodic_test as midway
from alexnet_tf1.supervisor import tensorboard as events
from alexnet_tf1.supervisor.hooks import RunHooks
from alexnet_tf1.system.signals import Stopped, StopRequest

NORMS = ("batch_normalization", "batch_normalization_1", "batch_normal", "batch_normal_1")
OPTIONS = [
    "--dataset", "synthetic", "--log-every", "2", "--test-every", "4", "--checkpoint-every", "4",
    "--test-batches", "2",
]  # fmt: skip


def events_of(path):
    return list(tf.train.summary_iterator(str(path)))


def values_of(found):
    """By tag, a list of (step, value): a number, a HistogramProto or a text."""
    values = {}
    for event in found:
        for value in event.summary.value:
            kind = value.WhichOneof("value")
            content = getattr(value, kind)
            if kind == "tensor":
                content = tf.make_ndarray(content).item()
            values.setdefault(value.tag, []).append((event.step, content))
    return values


def records_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run of 8 steps, and the same gone on with after it lost all since step 4."""
    place = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch.setattr, SMALL)
        whole, resumed = place / "whole", place / "resumed"
        assert cli.main(["train", *OPTIONS, "--steps", "8", "--run-dir", str(whole)]) == 0
        shutil.copytree(whole, resumed)
        for path in (resumed / "checkpoints").glob("model.ckpt-8.*"):
            path.unlink()
        (first,) = resumed.glob("events*")
        first.rename(resumed / "events.out.tfevents.1.first")  # its name tells the second
        assert cli.main(["train", "--resume", "--steps", "10", "--run-dir", str(resumed)]) == 0
    return whole, resumed


def test_each_tag_holds_what_the_metrics_hold(folders):
    (path,) = folders[0].glob("events*")
    values = values_of(events_of(path))
    expected = {
        "loss/train": "loss",
        "accuracy/train": "accuracy",
        "speed/images_per_s": "images_per_s",
        "accuracy/test_inference": "test_accuracy",
        "accuracy/test_batch_statistics": "batch_statistics_accuracy",
    }
    for tag, key in expected.items():
        logged = [(r["step"], r[key]) for r in records_of(folders[0]) if key in r]
        assert [step for step, _ in logged] == ([4, 8] if "test" in tag else [2, 4, 6, 8])
        assert values.pop(tag) == [(step, pytest.approx(value)) for step, value in logged]
    ((step, text),) = values.pop("config")
    assert step == 0
    config = json.loads((folders[0] / "config.json").read_text())
    text = text.decode()
    assert "| --fc-batch-norm | `batch` |" in text.splitlines()
    assert text.count("\n") == 1 + len(config)
    for tag in ("tested/confusion_matrix", "tested/worst"):
        ((step, image),) = values.pop(tag)
        assert step == 8
        with Image.open(io.BytesIO(image.encoded_image_string)) as opened:
            assert opened.size == (image.width, image.height)
    assert [step for step, _ in values.pop(events.SETTINGS)] == [0]
    kinds = ("mean", "variance", "mean_distance", "variance_distance")
    assert set(values) == {f"moving_averages/{norm}/{kind}" for norm in NORMS for kind in kinds}
    for found in values.values():
        assert [step for step, _ in found] == [4, 8]


def test_accuracies_and_losses_come_first(folders):
    (path,) = folders[0].glob("events*")
    tags = values_of(events_of(path)).keys() - {"config", events.SETTINGS}
    groups = list(dict.fromkeys(tag.partition("/")[0] for tag in sorted(tags)))
    assert groups == ["accuracy", "loss", "moving_averages", "speed", "tested"]


def test_the_settings_are_what_tensorboard_calls_hparams(folders):
    metadata = pytest.importorskip("tensorboard.plugins.hparams.metadata")
    (path,) = folders[0].glob("events*")
    (value,) = (
        v
        for e in events_of(path)
        for v in e.summary.value
        if v.tag == metadata.SESSION_START_INFO_TAG
    )
    assert value.metadata.plugin_data.plugin_name == metadata.PLUGIN_NAME
    found = metadata.parse_session_start_info_plugin_data(value.metadata.plugin_data.content)
    settings = {name: getattr(v, v.WhichOneof("kind")) for name, v in found.hparams.items()}
    config = json.loads((folders[0] / "config.json").read_text())
    assert settings == {k: v for k, v in config.items() if k not in OF_LOGGING}


@pytest.mark.parametrize("finite", [True, False])
def test_a_model_that_diverged_has_no_pictures(finite):
    written = []
    data, logits = SMALL(), np.zeros([100, 10], np.float32)
    logits[7, 7] = 1 if finite else np.nan
    hooks = SimpleNamespace(
        _data=data, _events=SimpleNamespace(finished=lambda *a: written.append(a))
    )
    RunHooks._draw(hooks, 5, logits)
    assert [step for step, _ in written] == [5] * finite


def test_every_tag_says_what_it_means(folders):
    (path,) = folders[0].glob("events*")
    seen = {}
    for event in events_of(path):
        for value in event.summary.value:
            seen.setdefault(value.tag, value.metadata.summary_description)
    assert set(seen.values()) == set(events.MEANING.values())


def test_histograms_hold_the_statistics_of_the_checkpoint(folders):
    (path,) = folders[0].glob("events*")
    values = values_of(events_of(path))
    saved = tf.train.load_checkpoint(str(folders[0] / "checkpoints/model.ckpt-8"))
    for layer, variable in (
        ("batch_normalization_1/mean", "batch_normalization_1/moving_mean"),
        ("batch_normal/variance", "batch_normal/moments/Squeeze_1/ExponentialMovingAverage"),
    ):
        content, (step, found) = saved.get_tensor(variable), values[f"moving_averages/{layer}"][-1]
        assert step == 8
        assert found.num == sum(found.bucket) == content.size
        assert (found.min, found.max) == (content.min(), content.max())
        assert found.sum == pytest.approx(content.sum(dtype=np.float64))


@pytest.mark.parametrize(
    ("values", "number"), [([], 0), ([np.nan, np.inf], 0), ([1, 1, np.nan, 1e38], 3), ([0, 0], 2)]
)
def test_a_histogram_leaves_out_what_is_not_finite(values, number):
    found = events.histogram(np.float32(values))
    assert found.num == sum(found.bucket) == number


def test_tensorboard_forgets_what_is_logged_again(folders):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    paths = sorted(folders[1].glob("events*"))  # TensorBoard's order
    assert len(paths) == 2
    written = values_of(event for path in paths for event in events_of(path))
    assert [step for step, _ in written["loss/train"]] == [2, 4, 6, 8, 4, 6, 8, 10]
    read = accumulators.EventAccumulator(
        str(folders[1]), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0}
    ).Reload()
    for tag in written:
        if tag in events.TRAINED.values():
            assert [event.step for event in read.Scalars(tag)] == [2, 4, 6, 8, 10]
        elif tag.startswith("accuracy/test") or tag.endswith("_distance"):
            assert [event.step for event in read.Scalars(tag)] == [4, 8]
        elif tag.startswith("moving_averages"):
            assert [event.step for event in read.Histograms(tag)] == [4, 8]
    assert [event.step for event in read.Tensors("config")] == [0, 4]
    logged = {r["step"]: r["loss"] for r in records_of(folders[1]) if "loss" in r}
    assert {e.step: pytest.approx(e.value) for e in read.Scalars("loss/train")} == logged


def test_a_run_is_one_run_to_tensorboard(folders):
    with_events = {path.parent for path in folders[0].parent.rglob("*tfevents*")}
    assert with_events == set(folders)


def test_the_table_holds_every_setting_and_no_loose_bar():
    config = TrainConfig(run_dir="a|b")
    lines = events.table(config).splitlines()
    assert len(lines) == 2 + len(dataclasses.fields(config))
    assert r"| --run-dir | `a\|b` |" in lines
    assert "| --data-dir |  |" in lines


class Small:
    """Both kinds of normalisation on four numbers an image; trains in a millisecond a step."""

    def __init__(self, *, statistics, update_ops="control"):
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.set_random_seed(0)
            images = tf.placeholder(tf.float32, [None, 4])
            labels = tf.placeholder(tf.int64, [None])
            is_training = tf.placeholder(tf.bool, [])
            x = layers.dense(images, 6, name="dense")
            x = tf.reshape(x, [-1, 1, 2, 3])
            x = layers.batch_normalization(x, is_training, name="conv_norm")
            x = layers.dense(tf.nn.relu(layers.flatten(x, name="flatten")), 5, name="dense_1")
            x = layers.batch_normal(x, is_training, statistics=statistics, name="fc_norm")
            logits = layers.dense(x, 10, name="dense_2")
            loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
            updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
            with tf.control_dependencies(updates if update_ops == "control" else []):
                train_op = tf.train.AdamOptimizer(1e-4).minimize(loss)
            self.net = SimpleNamespace(
                images=images, labels=labels, is_training=is_training, train_op=train_op,
                hits=tf.equal(tf.argmax(logits, 1), labels), logits=logits,
                norms=norms.recorded(self.graph),
            )  # fmt: skip
            self.variables = {v.op.name: v for v in tf.global_variables()}
            self.session = tf.Session()
            self.session.run(tf.global_variables_initializer())
        random = np.random.RandomState(0)
        self.split = Split(
            random.randint(0, 256, [400, 4]).astype(np.uint8), random.randint(0, 10, 400)
        )

    def train(self, steps):
        net = self.net
        for images, labels in list(midway.batches.in_order(self.split, 20))[:20] * (steps // 20):
            feed = {net.images: images, net.labels: labels, net.is_training: True}
            self.session.run(net.train_op, feed)

    def test(self, stop=None):
        with self.graph.as_default():  # as in train; else Variable.load is an eager one's
            return midway.test(self.session, self.net, self.split, 20, stop or StopRequest())

    def values(self):
        return self.session.run(self.variables)


def changed(before, after):
    return {name for name, value in before.items() if not np.array_equal(value, after[name])}


def test_the_distance_is_near_0_in_order_and_large_where_updates_are_forgotten():
    found = {}
    for update_ops in ("control", "none"):
        small = Small(statistics="ema", update_ops=update_ops)
        small.train(800)
        found[update_ops] = small.test().layers
    for right, forgotten in zip(found["control"], found["none"], strict=True):
        assert right.name == forgotten.name
        assert 0 <= right.distance.mean < 0.15
        assert 0 <= np.log(right.distance.variance) < 0.15
        assert np.log(forgotten.distance.variance) > 0.8
        assert np.log(forgotten.distance.variance) > 6 * np.log(right.distance.variance)


def test_distances_by_hand_and_for_a_channel_that_never_varies():
    seen = BatchMoments()
    seen.add(np.float32([[0, 5, 1], [2, 5, 3]]))  # means 1 5 2, variances 1 0 1
    seen.add(np.float32([[2, 5, 3], [4, 5, 5]]))  # means 3 5 4, variances 1 0 1
    found = seen.distance(np.float32([2, 5, 3]), np.float32([1, 0, 1]))
    assert found == (0, 1)
    found = seen.distance(np.float32([4, 7, 1]), np.float32([3, 3, 3]))
    assert found.mean == pytest.approx(2 / np.sqrt(1.001))  # of 2, 63 and 2
    assert found.variance == pytest.approx(3.001 / 1.001)  # of 3, 3001 and 3
    flat = BatchMoments()
    flat.add(np.zeros([2, 2, 2, 3], np.float32))
    assert np.isfinite(flat.distance(np.float32([0, 1, 2]), np.float32([0, 1, 2]))).all()


def test_what_is_not_finite_does_not_stop_a_test():
    seen = BatchMoments()
    seen.add(np.full([2, 3], np.inf, np.float32))
    assert np.isnan(seen.distance(np.zeros(3, np.float32), np.full(3, -1, np.float32))).all()


@pytest.mark.parametrize("statistics", ["batch", "ema"])
def test_measuring_moves_nothing_but_what_the_original_s_test_moves(statistics, monkeypatch):
    def variables(measure):
        with monkeypatch.context() as patch:
            if not measure:
                moments = BatchMoments()
                moments.add(np.ones([1, 1]))
                patch.setattr(midway, "_with_batch_statistics", lambda *_: (0.0, [moments] * 2))
            small, found = Small(statistics=statistics), []
            for _ in range(3):
                small.train(20)
                trained = small.values()
                small.test()
                found.append(small.values())
            return trained, found

    trained, found = variables(measure=True)
    for ours, theirs in zip(found, variables(measure=False)[1], strict=True):
        assert changed(ours, theirs) == set()
    moved = {name for name in trained if name.startswith("fc_norm") and "Average" in name}
    assert len(moved) == (2 if statistics == "batch" else 6)
    assert changed(trained, found[-1]) == (moved if statistics == "batch" else set())
    # The twin that does not put the averages back is told apart.
    monkeypatch.setattr(midway, "set_variables", lambda *_: None)
    others = variables(measure=True)[1]
    assert changed(others[-1], found[-1]) == (moved if statistics == "batch" else set())


@pytest.mark.parametrize("at", [2, 27])  # of 20 batches a pass
def test_a_signal_in_either_pass_leaves_every_variable_as_it_was(at):
    class Stop(StopRequest):
        checks = 0

        def check(self):
            self.checks += 1
            if self.checks == at:
                raise Stopped

    small = Small(statistics="batch")
    small.train(20)
    before = small.values()
    with pytest.raises(Stopped):
        small.test(Stop())
    assert changed(before, small.values()) == set()
    small.test()
    assert changed(before, small.values())
