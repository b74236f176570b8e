"""The doctor with the graph beside the checkpoint: each right checkpoint with its bad twin."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from corpus.cases import dense, ema_norm, inputs, loss_of, minimize, moments_norm, moving, switch
from corpus.frozen import stored_norm

from alexnet_tf1.batchnorm.doctor import examine_checkpoint


def saved(folder: Path, norm: Any, steps: int, name: str = "bn", only: Any = None) -> str:
    """Trains a network of one layer and saves it with its graph."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(0)
        images, labels = inputs()
        training = switch()
        x = norm(dense(images, 5, "fc1"), training, name)
        loss = loss_of(labels, dense(tf.nn.relu(x), 10, "fc2"))
        train = minimize(loss, global_step=tf.train.get_or_create_global_step())
        saver = tf.train.Saver(only and only())
        session.run(tf.global_variables_initializer())
        random = np.random.RandomState(0)
        for _ in range(steps):
            values = 3 + 2 * random.normal(size=[8, 4, 4, 3])
            feed = {images: values, labels: random.randint(0, 10, 8), training: True}
            session.run(train, feed)
        return str(saver.save(session, str(folder / "model")))


def found(report: Any) -> list[str]:
    return [f"{fault.rule} {fault.layer}" for fault in report.faults]


@pytest.mark.parametrize("norm", [moments_norm, ema_norm])
@pytest.mark.parametrize(("steps", "faults"), [(28, ["CK104 bn"]), (29, [])])
def test_how_much_of_the_initial_value_is_left(
    tmp_path: Path, norm: Any, steps: int, faults: list[str]
) -> None:
    """0.9 to the power of 28 is 0.052."""
    report = examine_checkpoint(saved(tmp_path, norm, steps))
    assert found(report) == faults
    if faults:
        message = report.faults[0].message
        assert message.startswith("5% of its initial value is left in ")
        assert "whose decay is 0.9, after 28 updates" in message


def test_without_the_graph_no_decay_is_guessed(tmp_path: Path) -> None:
    prefix = saved(tmp_path, moments_norm, 3)
    Path(f"{prefix}.meta").unlink()
    assert found(examine_checkpoint(prefix)) == []


def test_a_debiased_average_keeps_nothing_of_its_initial_value(tmp_path: Path) -> None:
    def norm(*arguments: Any) -> Any:
        return ema_norm(*arguments, form="debiased")

    assert found(examine_checkpoint(saved(tmp_path, norm, 3))) == []


def test_a_counter_that_was_set_back_is_seen_by_the_variance(tmp_path: Path) -> None:
    """One that began at 1 cannot be below what is left of it."""
    prefix = saved(tmp_path, moments_norm, 60)
    reader = tf.train.load_checkpoint(prefix)
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    values["global_step"] = np.int64(3)
    values["bn/moving_variance"] *= 0.01
    with tf.Graph().as_default(), tf.Session() as session:
        tf.train.import_meta_graph(f"{prefix}.meta")
        variables = tf.global_variables()
        session.run([v.assign(values[v.op.name]) for v in variables])
        tf.train.Saver(variables).save(session, prefix, write_meta_graph=False)
    assert found(examine_checkpoint(prefix)) == []


@pytest.mark.parametrize("has_graph", [True, False])
def test_a_layer_with_a_name_of_its_own(tmp_path: Path, has_graph: bool) -> None:
    """gamma and beta of `down_norm` may be anybody's; the graph knows whose they are."""
    whole = saved(tmp_path, moments_norm, 40, "down_norm")
    assert found(examine_checkpoint(whole)) == []
    (tmp_path / "bare").mkdir()
    prefix = saved(tmp_path / "bare", moments_norm, 40, "down_norm", tf.trainable_variables)
    if not has_graph:
        Path(f"{prefix}.meta").unlink()
    report = examine_checkpoint(prefix)
    assert found(report) == (["CK102 down_norm"] if has_graph else [])
    if has_graph:
        assert "without down_norm/moving_mean and down_norm/moving_variance" in str(report.faults)
        assert report.notes == []


def test_a_layer_that_keeps_no_averages_has_none_to_miss(tmp_path: Path) -> None:
    """Its name says batch normalisation, its graph that there was nothing to save."""

    def norm(x: Any, training: Any, name: str) -> Any:
        with tf.variable_scope(name):
            gamma = tf.get_variable("gamma", [5], initializer=tf.ones_initializer())
            beta = tf.get_variable("beta", [5], initializer=tf.zeros_initializer())
        mean, variance = tf.nn.moments(x, [0])
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)

    prefix = saved(tmp_path, norm, 2)
    assert found(examine_checkpoint(prefix)) == []
    Path(f"{prefix}.meta").unlink()
    assert found(examine_checkpoint(prefix)) == ["CK102 bn"]


def test_averages_of_any_spelling_are_known_by_the_graph(tmp_path: Path) -> None:
    def norm(x: Any, training: Any, name: str) -> Any:
        with tf.variable_scope(name):
            old_m = tf.get_variable("m0", initializer=tf.zeros([5]), trainable=False)
            old_v = tf.get_variable("v0", initializer=tf.ones([5]), trainable=False)
        mean, variance = tf.nn.moments(x, [0])
        for variable, value in ((old_m, mean), (old_v, variance)):
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, moving(variable, value))
        used = tf.cond(
            training,
            lambda: (tf.identity(mean), tf.identity(variance)),
            lambda: (tf.identity(old_m), tf.identity(old_v)),
        )
        return tf.nn.batch_normalization(x, *used, None, None, 1e-3)

    report = examine_checkpoint(saved(tmp_path, norm, 3, "odd"))
    assert found(report) == ["CK104 odd"]
    assert [s.variable for s in report.layers[0].statistics] == ["odd/m0", "odd/v0"]


@pytest.mark.parametrize(
    ("norm", "remedy"),
    [(stored_norm, "pass training=is_training"), (moments_norm, "build train_op under")],
)
def test_the_remedy_is_one_that_the_graph_allows(tmp_path: Path, norm: Any, remedy: str) -> None:
    """Where nothing in the graph updates the averages, UPDATE_OPS is empty."""

    def forgotten(*arguments: Any) -> Any:
        y = norm(*arguments)
        tf.get_collection_ref(tf.GraphKeys.UPDATE_OPS).clear()
        return y

    report = examine_checkpoint(saved(tmp_path, forgotten, 3))
    assert found(report) == ["CK101 bn"]
    assert f"after 3 steps: never updated; {remedy}" in report.faults[0].message


@pytest.mark.parametrize("is_run", [True, False])
def test_recalibrate_is_named_where_it_works(tmp_path: Path, is_run: bool) -> None:
    (tmp_path / "checkpoints").mkdir()
    if is_run:
        (tmp_path / "config.json").write_text("{}")
    prefix = saved(tmp_path / "checkpoints", moments_norm, 3)
    model = tmp_path if is_run else f"{prefix} --feed NAME=FILE.npy --out NEW_PREFIX"
    message = examine_checkpoint(prefix).faults[0].message
    assert message.endswith(f"`alexnet-tf1 recalibrate {model}`")
    if not is_run:
        Path(f"{prefix}.meta").unlink()
        assert all("recalibrate" not in f.message for f in examine_checkpoint(prefix).faults)


def test_a_graph_that_cannot_be_read_is_noted(tmp_path: Path) -> None:
    prefix = saved(tmp_path, moments_norm, 3)
    Path(f"{prefix}.meta").write_bytes(os.urandom(100))
    report = examine_checkpoint(prefix)
    assert report.faults == []
    assert "the graph beside the checkpoint was not used: " in report.notes[0]
