"""`evaluate --pictures`: counts and images checked by hand, on answers that are known."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image
from support.small_network import make_small

from alexnet_tf1.alexnet import build_for_testing
from alexnet_tf1.cli import main as cli
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data import synthetic
from alexnet_tf1.errors import UserError
from alexnet_tf1.reporting import confusion, plots
from alexnet_tf1.runs import folder as runs

IMAGES = 45
SMALL = functools.partial(synthetic.generate, train_images=20, test_images=IMAGES)
MEASURED = {
    "checkpoint": "run/model.ckpt-1",
    "dataset": {"name": "synthetic", "verified": False, "test_images": IMAGES},
    "batch_size": 20,
    "test_accuracy_full": 0.0,
}


@pytest.fixture(scope="module")
def small_data():
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch.setattr, SMALL)
        yield SMALL()


@pytest.fixture(scope="module")
def run_folder(small_data, tmp_path_factory) -> Path:
    """A run with the weights it began with."""
    folder = tmp_path_factory.mktemp("run") / "a"
    (folder / "checkpoints").mkdir(parents=True)
    config = TrainConfig(dataset="synthetic", run_dir=str(folder))
    runs.save_config(runs.Run(folder, config))
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(3)
        net = build_for_testing()
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(folder / "checkpoints/model.ckpt"), net.global_step)
    return folder


def one_hot(classes, height=5.0):
    return (height * np.eye(10)[classes]).astype(np.float32)


def test_the_matrix_is_the_count_by_hand():
    labels, predicted = [0, 0, 0, 1, 2, 2], [0, 1, 1, 1, 0, 2]
    by_hand = [[1, 2, 0], [0, 1, 0], [1, 0, 1]]
    assert confusion.matrix(labels, predicted, 3).tolist() == by_hand
    # Its sabotaged twins: the axes changed over, and a repeated pair counted once.
    assert confusion.matrix(predicted, labels, 3).tolist() != by_hand
    once = np.zeros((3, 3), int)
    once[labels, predicted] += 1
    assert once.tolist() != by_hand


def test_the_worst_are_the_wrong_ones_in_the_order_of_their_loss():
    labels = np.array([3, 3, 3, 3, 3, 3])
    logits = one_hot([3, 1, 1, 4, 3, 1], 0.0)
    for row, (true, wrong, height) in enumerate(
        [(0, 1, 4.0), (0, 1, 2.0), (0, 1, 9.0), (3, 4, 7.0), (9.0, 1, 8.0), (0, 1, 2.0)]
    ):
        logits[row, 3], logits[row, wrong] = true, height
    found = confusion.worst(labels, logits, 4)
    # By loss 2 (9.0), 0 (4.15), 3 (4.02), and 1 before 5, its equal; 4 is right, if not sure.
    assert [image["index"] for image in found] == [2, 0, 3, 1]
    assert [image["predicted"] for image in found] == [1, 1, 4, 1]
    total = np.exp(9.0) + 9
    assert found[0]["probability"] == pytest.approx(np.exp(9.0) / total)
    assert found[0]["loss"] == pytest.approx(np.log(total))
    assert len(confusion.worst(labels, logits, 40)) == 5
    assert confusion.worst(labels, one_hot(labels), 40) == []


def test_large_logits_do_not_overflow():
    (found,) = confusion.worst(np.array([0]), one_hot([1], 3e38), 1)
    assert found["probability"] == 1.0
    assert np.isfinite(found["loss"])


def test_the_pictures_show_the_images_in_order(small_data, tmp_path, monkeypatch):
    """The figure is looked at before it is written: its images, titles and cells."""
    drawn = {}
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.update({path.name: figure}))
    labels = small_data.test.labels
    logits = one_hot((labels + 1) % 10) * np.linspace(2, 1.5, IMAGES, dtype=np.float32)[:, None]
    logits[::2] *= 2  # the even ones are worse
    confusion.write(MEASURED, small_data, logits, tmp_path)
    worst_first = [*range(0, IMAGES, 2), *range(1, IMAGES, 2)][:40]
    axes = drawn["worst.png"].axes
    assert len(axes) == 40
    for index, ax in zip(worst_first, axes, strict=True):
        pixels = small_data.test.images[index].reshape(3, 32, 32)
        assert (ax.images[0].get_array() == np.moveaxis(pixels, 0, 2)).all()
        assert ax.images[0].get_interpolation() == "nearest"
        true, predicted = labels[index], (labels[index] + 1) % 10
        names = synthetic.CLASS_NAMES
        assert ax.get_title().splitlines()[:2] == [names[true], f"→ {names[predicted]}"]
    counts = np.bincount(labels, minlength=10)
    cells = {t.get_position(): t.get_text() for t in drawn["confusion.png"].axes[0].texts}
    assert cells[1, 0] == f"{counts[0]}\n100.0%"  # x: predicted; y: true
    assert cells[0, 1] == "0\n0.0%"
    assert len(cells) == 100


def test_a_class_without_images_and_a_model_without_mistakes(small_data, tmp_path):
    few = small_data.test._replace(images=small_data.test.images[:3], labels=np.array([0, 0, 1]))
    found = confusion.write(
        MEASURED, small_data._replace(test=few), one_hot([0, 0, 1]), tmp_path
    )  # fmt: skip
    assert found["worst"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confusion.png", "worst.png"]


def test_a_diverged_model_is_refused(small_data, tmp_path):
    logits = one_hot(small_data.test.labels)
    logits[7, 7] = np.nan
    with pytest.raises(UserError, match="diverged"):
        confusion.write(MEASURED, small_data, logits, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_both_and_json_holds_the_matrix(run_folder, small_data, capsys):
    assert cli.main(["evaluate", str(run_folder), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert not list(run_folder.glob("*.png"))
    assert cli.main(["evaluate", str(run_folder), "--pictures", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.items() >= plain.items()  # looking closer changes no figure
    counts = np.array(found["confusion"])
    assert counts.sum(axis=1).tolist() == np.bincount(small_data.test.labels).tolist()
    assert counts.trace() == round(IMAGES * found["test_accuracy_full"])
    assert found["class_names"] == list(synthetic.CLASS_NAMES)
    assert [image["loss"] for image in found["worst"]] == sorted(
        (image["loss"] for image in found["worst"]), reverse=True
    )
    for name, size in (("confusion", (1440, 1408)), ("worst", (1760, 1536))):
        assert found["pictures"][name] == str(run_folder / f"{name}.png")
        with Image.open(found["pictures"][name]) as image:
            image.load()
            assert (image.format, image.size) == ("PNG", size)
