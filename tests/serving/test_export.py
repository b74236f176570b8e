"""What `export` writes: that it serves what the session answers, and what it refuses to write."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from support import saved
from support.served import STEPS
from support.small_network import make_small
from support.small_set import SMALL
from tensorflow.core.protobuf import saved_model_pb2

from alexnet_tf1.batchnorm.audit import audit_file
from alexnet_tf1.batchnorm.doctor import examine_checkpoint
from alexnet_tf1.data import synthetic
from alexnet_tf1.data.batches import SCALED
from alexnet_tf1.errors import UserError
from alexnet_tf1.gap import recalibrate as gap
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.serving import export as exporting
from alexnet_tf1.serving.export import export


@pytest.fixture(scope="module", autouse=True)
def small_data():
    """Little is learnt here; the runs are of the same small program."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch.setattr, SMALL)
        yield


@pytest.fixture(scope="module")
def exported(run_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "new" / "model"
    return export(str(run_folder), str(folder), checkpoint=str(STEPS))


@pytest.fixture(scope="module")
def pixels():
    """Images of all classes, uint8 [100, 3072], channel-major as the data sets have them."""
    return SMALL(seed=1).test.images


@pytest.fixture(scope="module")
def images(pixels):
    """The same as people hold them, uint8 [100, 32, 32, 3]."""
    return np.stack([image.reshape(3, 1024).T.reshape(32, 32, 3) for image in pixels])


def session_s_answer(run_folder, pixels, checkpoint=None):
    """Probabilities of the network as it is evaluated, with moving averages in all layers."""
    run = runs.open_run(str(run_folder))
    config = dataclasses.replace(run.config, fc_batch_norm="ema")
    with gap.restored(config, run.checkpoint(checkpoint)) as (session, net):
        feed = {net.images: SCALED[pixels], net.is_training: False}
        return session.run(net.probabilities, feed)


@pytest.fixture(scope="module")
def expected(run_folder, pixels):
    found = session_s_answer(run_folder, pixels, str(STEPS))
    assert len(set(found.argmax(1))) > 1  # or equal answers would tell little
    return found


@pytest.fixture
def serve(exported):
    """The exported model in a TF1 session, as TF1's own loader gives it."""
    with tf.Graph().as_default(), tf.Session() as session:
        served = tf.saved_model.load(session, ["serve"], exported["directory"])
        signature = served.signature_def["serving_default"]
        outputs = {name: info.name for name, info in signature.outputs.items()}
        yield lambda images: session.run(outputs, {signature.inputs["images"].name: images})


# TensorFlow 2 loads the model, then saved_model_cli, as its script begins it, shows and runs it.
# One process for the three: each would spend seconds on importing TensorFlow.
SERVE = """
import sys
import numpy as np
import tensorflow as tf
from tensorflow.python.tools import saved_model_cli
model, folder = sys.argv[1:]
serve = tf.saved_model.load(model).signatures["serving_default"]
answer = serve(images=tf.constant(np.load(f"{folder}/given.npy")))
np.savez(f"{folder}/found.npz", **{name: value.numpy() for name, value in answer.items()})
signature = ["--dir", model, "--tag_set", "serve", "--signature_def", "serving_default"]
for command in (
    ["show", *signature],
    ["run", *signature, "--inputs", f"images={folder}/given.npy", "--outdir", folder],
):
    sys.argv = ["saved_model_cli", *command]
    try:
        saved_model_cli.main()
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.fixture(scope="module")
def elsewhere(exported, images, tmp_path_factory):
    """What a process with nothing of this project makes of the model: a folder, and its output."""
    folder = tmp_path_factory.mktemp("elsewhere")
    np.save(folder / "given.npy", images)
    done = subprocess.run(
        [sys.executable, "-c", SERVE, exported["directory"], folder],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_plain_tf2_process_gives_the_session_s_bits(elsewhere, expected):
    found = np.load(elsewhere[0] / "found.npz")
    assert set(found) == {"probabilities", "classes"}
    np.testing.assert_array_equal(found["probabilities"], expected)
    np.testing.assert_array_equal(found["classes"], expected.argmax(1))
    assert found["probabilities"].dtype == np.float32
    assert found["classes"].dtype == np.int64


def test_saved_model_cli_gives_the_session_s_bits(elsewhere, expected):
    folder, _ = elsewhere
    np.testing.assert_array_equal(np.load(folder / "probabilities.npy"), expected)
    np.testing.assert_array_equal(np.load(folder / "classes.npy"), expected.argmax(1))


def test_saved_model_cli_shows_the_signature(elsewhere):
    text = " ".join(elsewhere[1].split())
    for part in (
        "inputs['images'] tensor_info: dtype: DT_UINT8 shape: (-1, 32, 32, 3)",
        "outputs['probabilities'] tensor_info: dtype: DT_FLOAT shape: (-1, 10)",
        "outputs['classes'] tensor_info: dtype: DT_INT64 shape: (-1)",
        "Method name is: tensorflow/serving/predict",
    ):
        assert part in text


def test_the_answer_says_what_was_written(exported, run_folder):
    assert json.loads(json.dumps(exported)) == exported
    assert exported["checkpoint"] == str(run_folder / "checkpoints" / f"model.ckpt-{STEPS}")
    assert (exported["fc_batch_norm"], exported["statistics"]) == ("ema", "moving averages")
    assert exported["steps"] == STEPS
    assert exported["start_left"] == pytest.approx(0.99**STEPS)
    assert exported["signature"] == {
        "name": "serving_default",
        "tag": "serve",
        "inputs": {"images": {"dtype": "uint8", "shape": [None, 32, 32, 3]}},
        "outputs": {
            "probabilities": {"dtype": "float32", "shape": [None, 10]},
            "classes": {"dtype": "int64", "shape": [None]},
        },
    }
    folder = Path(exported["directory"])
    names = (folder / "assets.extra" / "class_names.txt").read_text().splitlines()
    assert names == exported["class_names"] == list(synthetic.CLASS_NAMES)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]  # and nothing beside it


def test_one_image_alone_gets_the_answer_it_gets_among_a_hundred(serve, images, expected):
    for row in (0, 57):
        alone = serve(images[row : row + 1])
        # Another number of rows may be multiplied in another order: not one bit more.
        np.testing.assert_allclose(alone["probabilities"][0], expected[row], rtol=1e-5, atol=1e-7)
        assert alone["classes"].tolist() == [expected[row].argmax()]


def test_nothing_of_training_is_in_it(exported):
    folder = Path(exported["directory"])
    names = {name for name, _ in tf.train.list_variables(str(folder / "variables" / "variables"))}
    assert len(names) == 24 + 8  # trainable, and two averages in each of four layers
    leaves = {name.rpartition("/")[2] for name in names}
    assert leaves == {
        "kernel", "bias", "gamma", "beta", "scale", "shift", "moving_mean", "moving_variance",
        "ExponentialMovingAverage",
    }  # fmt: skip
    (meta,) = saved_model_pb2.SavedModel.FromString(
        (folder / "saved_model.pb").read_bytes()
    ).meta_graphs
    nodes = [node for node in meta.graph_def.node if not node.name.startswith("save/")]
    assert [node.name for node in nodes if node.op.startswith("Placeholder")] == ["images"]
    assert len([node for node in nodes if node.op.startswith("Assign")]) == 24 + 8  # initialisers
    assert not [node.name for node in nodes if "grad" in node.name or "Adam" in node.op]
    assert set(meta.collection_def) == {"variables", "trainable_variables"}


def test_the_audit_and_the_doctor_find_nothing_wrong_with_it(exported):
    report = audit_file(exported["directory"])
    assert len(report.layers) == 4
    assert report.faults == []
    found = examine_checkpoint(exported["directory"])
    assert len(found.layers) == 4
    assert found.faults == []


def test_a_recalibrated_checkpoint_of_the_original_s_normalisation_is_served(
    batch_run, pixels, images, tmp_path
):
    found = export(str(batch_run), str(tmp_path / "model"))
    assert found["statistics"] == "recalibrated"
    assert found["start_left"] == 0
    with tf.Graph().as_default(), tf.Session() as session:
        tf.saved_model.load(session, ["serve"], found["directory"])
        answer = session.run("probabilities:0", {"images:0": images})
    np.testing.assert_array_equal(answer, session_s_answer(batch_run, pixels))


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"checkpoint": str(STEPS)}, ["recalibrate", "--fc-batch-norm ema"]),
        ({"checkpoint": "7"}, ["--checkpoint 7 is not there"]),
    ],
)
def test_a_model_that_would_read_the_batch_is_refused(batch_run, settings, parts, tmp_path):
    refused(parts, str(batch_run), tmp_path / "new" / "model", **settings)
    assert list(tmp_path.iterdir()) == []


def refused(parts, *args, **settings):
    with pytest.raises(UserError) as error:
        export(*map(str, args), **settings)
    for part in parts:
        assert part in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("value", "rule"), [(None, "CK101"), (np.nan, "CK103"), (-1, "CK103")])
def test_statistics_that_the_doctor_finds_fault_with_are_refused(run_folder, value, rule, tmp_path):
    prefix = str(run_folder / "checkpoints" / f"model.ckpt-{STEPS}")
    reader = tf.train.load_checkpoint(prefix)
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    name = "batch_normalization_1/moving_variance"
    if value is None:  # as --update-ops none leaves them
        values["batch_normalization_1/moving_mean"][:] = 0
        values[name][:] = 1
    else:
        values[name][5] = value
    bad = saved.save(tmp_path / "bad.ckpt", values)
    refused(
        [bad, rule, "batch_normalization_1", "recalibrate"],
        run_folder, tmp_path / "model", checkpoint=bad,
    )  # fmt: skip
    assert not (tmp_path / "model").exists()


def test_a_run_that_diverged_is_refused(run_folder, tmp_path):
    prefix = str(run_folder / "checkpoints" / f"model.ckpt-{STEPS}")
    reader = tf.train.load_checkpoint(prefix)
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    values["dense_2/bias"][3] = np.inf
    bad = saved.save(tmp_path / "bad.ckpt", values)
    refused([bad, "not finite"], run_folder, tmp_path / "model", checkpoint=bad)
    assert not (tmp_path / "model").exists()


def test_a_mount_point_is_refused_before_any_work(run_folder, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: os.fspath(path) == str(tmp_path / "out"))
    refused(["out is a mount point", "name a folder in it"], run_folder, tmp_path / "out")


def test_a_folder_that_is_not_empty_is_left_alone(run_folder, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    refused(["full is not empty"], run_folder, tmp_path / "full")
    refused(["mine is a file"], run_folder, tmp_path / "full" / "mine")
    refused(["cannot be written"], run_folder, tmp_path / "full" / "mine" / "model")
    refused(["cannot be written"], run_folder, f"{tmp_path}/a\0b")
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine"]


def test_what_fails_half_way_leaves_nothing(run_folder, tmp_path, monkeypatch):
    def full(folder, _):
        assert (folder / "saved_model.pb").exists()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "_write_class_names", full)
    (tmp_path / "empty").mkdir()
    refused(["No space left on device"], run_folder, tmp_path / "empty")
    refused(["No space left on device"], run_folder, tmp_path / "new" / "model")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_tflite_gives_the_same_classes(run_folder, images, expected, tmp_path):
    (tmp_path / "model").mkdir()  # an empty folder will do
    found = export(str(run_folder), str(tmp_path / "model"), tflite=True)
    assert found["tflite"] == str(tmp_path / "model" / "model.tflite")
    model = Path(found["tflite"]).read_bytes()
    np.testing.assert_array_equal(exporting.classes_by_tflite(model, images), expected.argmax(1))


@pytest.mark.parametrize("broken", ["converter", "answers"])
def test_a_conversion_that_fails_leaves_nothing(run_folder, broken, tmp_path, monkeypatch):
    def convert(folder):
        raise RuntimeError("op X is neither a custom op nor a flex op\nand a page of text")

    def answer(model, images):
        return np.full(len(images), 10)

    monkeypatch.setattr(exporting, "_converted", convert if broken == "converter" else bytes)
    monkeypatch.setattr(exporting, "classes_by_tflite", answer)
    part = {"converter": "neither a custom op", "answers": "100 of 100 images differently"}
    refused(["--tflite", part[broken]], run_folder, tmp_path / "model", tflite=True)
    assert list(tmp_path.iterdir()) == []
