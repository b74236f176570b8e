"""`predict`: each picture by itself, and no answer from a model that has none for it."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image
from support.served import STEPS, variant
from support.small_network import make_small
from support.small_set import SMALL

from alexnet_tf1.cli import main as cli
from alexnet_tf1.data import cifar10, synthetic
from alexnet_tf1.data.batches import SCALED
from alexnet_tf1.errors import UserError
from alexnet_tf1.files import write_json
from alexnet_tf1.gap import recalibrate as gap
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs import network
from alexnet_tf1.serving.predict import predict


@pytest.fixture(scope="module", autouse=True)
def small_data():
    """Little is learnt here; the runs are of the same small program."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch.setattr, SMALL)
        yield


def change(folder, new_values):
    """Saves a run's newest checkpoint again; new_values maps a name and value to another."""
    path = runs.open_run(str(folder)).checkpoint()
    reader = tf.train.load_checkpoint(path)
    with tf.Graph().as_default(), tf.Session() as session:
        values = {name: reader.get_tensor(name) for name, _ in tf.train.list_variables(path)}
        saved = {
            name: tf.Variable(new_values(name, value), name=name) for name, value in values.items()
        }
        session.run(tf.global_variables_initializer())
        tf.train.Saver(saved).save(session, path, write_meta_graph=False)


@pytest.fixture(scope="module")
def images():
    """One test image of each class, uint8 [10, 3072], channel-major."""
    data = SMALL().test
    return np.stack([data.images[data.labels == label][0] for label in range(10)])


@pytest.fixture(scope="module")
def files(images, tmp_path_factory):
    """The same as PNG files."""
    folder = tmp_path_factory.mktemp("images")
    paths = [str(folder / f"{number}.png") for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.reshape(3, 1024).T.reshape(32, 32, 3)).save(path)
    return paths


def probabilities(found):
    """float64 [N, 10] by label, of an answer with top=10."""
    rows = [{c["label"]: c["probability"] for c in image["classes"]} for image in found["images"]]
    return np.array([[row[label] for label in range(10)] for row in rows])


def by_session(folder, batches, checkpoint=None, fc_batch_norm="ema"):
    """The probabilities of batches of images, each float32 [N, 10]."""
    run = runs.open_run(str(folder))
    config = dataclasses.replace(run.config, fc_batch_norm=fc_batch_norm)
    with gap.restored(config, run.checkpoint(checkpoint)) as (session, net):
        feeds = [{net.images: SCALED[images], net.is_training: False} for images in batches]
        return [session.run(net.probabilities, feed) for feed in feeds]


def refusal(*arguments, **options):
    with pytest.raises(UserError) as raised:
        predict(*map(str, arguments[:1]), *arguments[1:], **options)
    text = str(raised.value)
    assert "\n" not in text
    return text


def test_each_image_is_judged_alone(run_folder, images, files):
    together = predict(str(run_folder), files, top=10)
    backwards = predict(str(run_folder), files[::-1], top=10)
    found = probabilities(together)
    assert (found == probabilities(backwards)[::-1]).all()
    assert np.allclose(found.sum(1), 1, atol=1e-6)
    assert len(np.unique(found, axis=0)) == len(files)
    # A session that gets all ten in one batch says the same, but for the rounding of its sums.
    (in_one_batch,) = by_session(run_folder, [images])
    np.testing.assert_allclose(found, in_one_batch, rtol=1e-4, atol=1e-7)
    for image, path in zip(together["images"], files, strict=True):
        assert image["image"] == path
        falling = [c["probability"] for c in image["classes"]]
        assert falling == sorted(falling, reverse=True)


def test_the_answer_says_what_it_is_from(run_folder, files, capsys):
    found = predict(str(run_folder), files[:2])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert capsys.readouterr() == ("", "")
    assert list(found) == [
        "run", "checkpoint", "steps", "dataset", "statistics", "start_left", "images"
    ]  # fmt: skip
    assert found["checkpoint"].endswith(f"model.ckpt-{STEPS}")
    assert (found["steps"], found["dataset"]) == (STEPS, "synthetic")
    assert found["statistics"] == "moving averages"
    assert found["start_left"] == pytest.approx(0.99**STEPS)
    assert [len(image["classes"]) for image in found["images"]] == [3, 3]
    for answer in found["images"][0]["classes"]:
        assert answer["class"] == synthetic.CLASS_NAMES[answer["label"]]


def test_a_model_that_needs_a_batch_is_refused(run_folder, batch_run, images, files):
    # Why: a batch of one is normalised to a constant, whatever the image.
    alone = by_session(batch_run, images[:, np.newaxis], str(STEPS), "batch")
    assert np.ptp(alone, axis=0).max() < 1e-6
    text = refusal(batch_run, files, checkpoint=str(STEPS))
    assert "cannot judge a single image" in text
    assert f"alexnet-tf1 recalibrate {batch_run}" in text
    assert "--fc-batch-norm ema" in text
    # The same weights, with averages that were made to be read.
    assert predict(str(run_folder), files)["checkpoint"].endswith(f"-{STEPS}")


def test_a_recalibrated_batch_run_answers_as_ema(batch_run, images, files):
    found = predict(str(batch_run), files, top=10)
    assert found["checkpoint"].endswith(f"model.ckpt-{STEPS}-recalibrated")
    assert (found["statistics"], found["start_left"]) == ("recalibrated", 0.0)
    answers = probabilities(found)
    (as_ema,) = by_session(batch_run, [images])
    np.testing.assert_allclose(answers, as_ema, rtol=1e-4, atol=1e-7)
    (own,) = by_session(batch_run, [images], fc_batch_norm="batch")
    assert abs(answers - own).max() > 1e-3, "the batch's statistics would give other answers"


def initial(name, value):
    """What `--update-ops none` leaves in a checkpoint: statistics as they began."""
    if name.endswith(("moving_mean", "biased", "local_step")) or "moments/" in name:
        return np.zeros_like(value)
    return np.ones_like(value) if name.endswith("moving_variance") else value


def test_statistics_that_were_never_updated_are_refused(run_folder, files, tmp_path):
    folder = variant(run_folder, tmp_path / "none", update_ops="none")
    change(folder, initial)
    text = refusal(folder, files)
    assert "cannot judge a single image" in text
    assert "CK101" in text
    assert f"alexnet-tf1 recalibrate {folder}" in text
    gap.recalibrate(str(folder), images=100)  # does as it was told
    assert predict(str(folder), files)["statistics"] == "recalibrated"


def test_a_run_that_diverged_is_refused(run_folder, files, tmp_path):
    folder = variant(run_folder, tmp_path / "nan")
    change(folder, lambda name, value: value * np.nan if name == "dense_2/bias" else value)
    assert "diverged" in refusal(folder, files)


def test_the_data_set_need_not_be_there(run_folder, files, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("the data set was loaded")

    monkeypatch.setattr(network, "load_data", fail)
    monkeypatch.setattr(cifar10, "find_or_fetch", fail)
    monkeypatch.setattr(synthetic, "generate", fail)
    folder = variant(run_folder, tmp_path / "a", dataset="auto", data_dir="/nowhere")
    found = predict(str(folder), files[:1])
    assert found["dataset"] == "synthetic", "auto had settled on it when the run was trained"
    write_json(folder / runs.DATA, {"name": "cifar10"})
    found = predict(str(folder), files[:1], top=10)
    assert found["dataset"] == "cifar10"
    answers = found["images"][0]["classes"]
    assert {c["label"]: c["class"] for c in answers} == dict(enumerate(cifar10.CLASS_NAMES))
    write_json(folder / runs.DATA, {"name": ["mnist"]})
    assert "data.json" in refusal(folder, files[:1])


def test_bad_input_is_named(run_folder, files, tmp_path):
    for top in (0, 11, -1):
        assert f"--top {top}" in refusal(run_folder, files, top=top)
    assert "no image" in refusal(run_folder, [])
    assert "not a run folder" in refusal(tmp_path, files)
    assert "--checkpoint 7" in refusal(run_folder, files, checkpoint="7")
    text = tmp_path / "text.png"
    text.write_text("a text")
    assert str(text) in refusal(run_folder, [str(text)])


def test_one_bad_file_of_several_does_not_keep_the_others_from_their_answers(
    run_folder, files, tmp_path, capsys
):
    bad = [str(tmp_path / "text.png"), str(tmp_path / "gone.png")]
    (tmp_path / "text.png").write_text("a text")
    status = cli.main(["predict", str(run_folder), files[0], *bad, *files[:2], "--json"])
    out, error = capsys.readouterr()
    assert status == 2
    assert [line.split()[:2] for line in error.splitlines()] == [["error:", name] for name in bad]
    found = json.loads(out)
    assert [image["image"] for image in found["images"]] == [files[0], *files[:2]]
    assert found["images"][0] == found["images"][1]
    assert len(found["refused"]) == 2
