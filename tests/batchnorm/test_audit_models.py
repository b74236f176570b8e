"""What `audit` takes as a model, which faults it is asked for, and where they are in the source."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow.compat.v1 as tf
from corpus.apart import separate_towers
from corpus.cases import conv, dense, inputs, loss_of, minimize, moments_norm, switch
from corpus.frozen import stored_norm
from corpus.single import network
from tensorflow.core.protobuf import saved_model_pb2

from alexnet_tf1.batchnorm.audit import audit_file, audit_graph
from alexnet_tf1.cli import main as cli
from alexnet_tf1.errors import UserError
from alexnet_tf1.testing import assert_batch_norm

BOTH = ["BN103 bn1", "BN103 bn2"]


def faults(report: Any) -> list[str]:
    return [f"{fault.rule} {fault.layer}" for fault in report.faults]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Estimator's folder: a checkpoint, its .meta, and graph.pbtxt; beside it other forms."""
    folder = tmp_path_factory.mktemp("models") / "estimator"
    with tf.Graph().as_default() as graph, tf.Session() as session:
        network(stored_norm, None)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(folder / "model.ckpt"), global_step=7)
        tf.io.write_graph(graph, str(folder), "graph.pbtxt")
        meta = tf.train.export_meta_graph()
    (folder.parent / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    (folder.parent / "meta.pbtxt").write_text(str(meta))
    (folder.parent / "any.name").write_bytes(meta.SerializeToString())
    saved = saved_model_pb2.SavedModel(meta_graphs=[meta])
    for name in ("binary/saved_model.pb", "text/saved_model.pbtxt"):
        path = folder.parent / name
        path.parent.mkdir()
        path.write_bytes(
            str(saved).encode() if name.startswith("text") else saved.SerializeToString()
        )
    return folder


@pytest.mark.parametrize(
    "name",
    [
        *("estimator", "estimator/model.ckpt-7", "estimator/model.ckpt-7.meta"),
        *("estimator/model.ckpt-7.index", "estimator/checkpoint", "estimator/graph.pbtxt"),
        *("frozen.pb", "meta.pbtxt", "any.name"),
        *("binary", "binary/saved_model.pb", "text", "text/saved_model.pbtxt"),
    ],
)
def test_every_form_of_a_model(model: Path, name: str) -> None:
    assert faults(audit_file(model.parent / name)) == BOTH


def test_a_checkpoint_without_its_meta_has_the_graph_of_its_folder(
    model: Path, tmp_path: Path
) -> None:
    for path in model.iterdir():
        if path.suffix != ".meta":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert faults(audit_file(tmp_path)) == BOTH
    (tmp_path / "graph.pbtxt").unlink()
    with pytest.raises(UserError, match=r"model\.ckpt-7\.meta is not there.*doctor"):
        audit_file(tmp_path / "model.ckpt-7")


def test_a_prefix_that_is_also_a_folders_name(model: Path) -> None:
    (model / "model.ckpt-7").mkdir()
    try:
        assert faults(audit_file(model / "model.ckpt-7")) == BOTH
    finally:
        (model / "model.ckpt-7").rmdir()


def test_what_holds_several_graphs_or_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint in it"):
        audit_file(tmp_path)
    for name in ("a.meta", "b.meta"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=r"holds several graphs, name one: a\.meta, b\.meta"):
        audit_file(tmp_path)
    (tmp_path / "a.meta").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(UserError, match=r"a\.meta is a Git LFS pointer"):
        audit_file(tmp_path / "a.meta")


def test_an_event_file_is_called_one(tmp_path: Path) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "events")) as writer:
        writer.write(tf.Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())
    with pytest.raises(UserError, match=r"events is TensorBoard's event file.* \.meta file or"):
        audit_file(tmp_path / "events")


def test_tags_are_for_saved_models(model: Path) -> None:
    with pytest.raises(UserError, match="--tags and --signature"):
        audit_file(model, tags=["serve"])


def test_several_models_in_a_call(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tf.Graph().as_default():
        network(moments_norm, switch())
        tf.train.export_meta_graph(str(tmp_path / "right.meta"))
    right, wrong = str(tmp_path / "right.meta"), str(model)
    assert cli.main(["audit", right]) == 0
    assert cli.main(["audit", right, wrong, right]) == 1
    assert capsys.readouterr().out.count(": 2 batch normalisations\n") == 4
    assert cli.main(["audit", "--json", right, wrong]) == 1
    one, two = json.loads(capsys.readouterr().out)
    assert (one["graph"], two["graph"]) == (right, wrong)
    assert (len(one["faults"]), len(two["faults"])) == (0, 2)
    assert cli.main(["audit", wrong, "nothing.meta", right]) == 2
    printed = capsys.readouterr()
    assert printed.err == (
        "error: nothing.meta does not exist; name a .meta file, a checkpoint's prefix or folder, "
        "a SavedModel, a frozen .pb or a graph.pbtxt\n"
    )
    assert printed.out.count(": 2 batch normalisations\n") == 2


# ---- frozen layers, by the checkpoint ------------------------------------------------------------


@pytest.mark.parametrize(("value", "expected"), [(0.5, []), (0.0, BOTH)])
def test_a_checkpoint_whose_averages_have_moved_tells_that_they_are_frozen(
    tmp_path: Path, value: float, expected: list[str]
) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        network(stored_norm, None)
        session.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            if variable.op.name.endswith("moving_mean"):
                session.run(variable.assign(variable.read_value() + value))
        prefix = tf.train.Saver().save(session, str(tmp_path / "model"))
    report = audit_file(prefix)
    assert faults(report) == expected
    noted = [note for note in report.notes if note.startswith("frozen on purpose")]
    assert len(noted) == (not expected)
    assert all("checkpoint beside the graph" in note and "bn1 and bn2" in note for note in noted)


def towers_saved(moved: tuple[str, ...], folder: Path) -> str:
    """A checkpoint of two towers that share nothing; the averages of some have moved."""
    with tf.Graph().as_default(), tf.Session() as session:
        separate_towers()
        session.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            if variable.op.name in [f"{scope}/bn1/moving_mean" for scope in moved]:
                session.run(variable.assign_add(tf.ones_like(variable) / 2))
        return tf.train.Saver().save(session, str(folder / "model"))


@pytest.mark.parametrize(
    ("moved", "expected", "checked"),
    [
        (("train",), ["BN102 test/bn1"], ["train/bn1", "test/bn1"]),
        (("train", "test"), [], ["train/bn1", "test/bn1"]),
        ((), [], ["train/bn1"]),
    ],
)
def test_a_tower_of_its_own_is_judged_by_the_checkpoint(
    tmp_path: Path, moved: tuple[str, ...], expected: list[str], checked: list[str]
) -> None:
    prefix = towers_saved(moved, tmp_path)
    alone = audit_file(shutil.move(f"{prefix}.meta", tmp_path / "alone.meta"))
    shutil.copy(tmp_path / "alone.meta", f"{prefix}.meta")
    assert (alone.faults, alone.checked["training"]) == ([], ["train/bn1"])
    (note,) = [note for note in alone.notes if note.startswith("BN101, BN102 and BN103")]
    assert "not checked on test/bn1" in note
    assert "though train/bn1, called and shaped the same, is trained" in note
    assert note.endswith("audit the checkpoint that holds them")
    report = audit_file(prefix)
    assert (faults(report), report.checked["training"]) == (expected, checked)


def test_layers_frozen_beside_others_are_noted() -> None:
    with tf.Graph().as_default() as graph:
        images, labels = inputs()
        x = stored_norm(conv(images, 6, "conv1"), None, "bn1")
        x = moments_norm(dense(x, 5, "fc1"), switch(), "bn2")
        minimize(loss_of(labels, dense(x, 10, "fc2")))
    report = audit_graph(graph)
    assert report.faults == []
    (note,) = [note for note in report.notes if note.startswith("frozen on purpose")]
    assert note.endswith("other layers of the same training op are updated: bn1")


# ---- which faults --------------------------------------------------------------------------------


def forgotten() -> tf.Graph:
    """BN101 and BN301 on bn1 and bn2."""
    with tf.Graph().as_default() as graph:
        network(moments_norm, switch(), before=[])
        tf.train.Saver(tf.trainable_variables())
    return graph


@pytest.mark.parametrize(
    ("select", "ignore", "expected"),
    [
        (None, None, ["BN101 bn1", "BN301 bn1", "BN101 bn2", "BN301 bn2"]),
        ("BN101", None, ["BN101 bn1", "BN101 bn2"]),
        ("BN3", None, ["BN301 bn1", "BN301 bn2"]),
        (["BN101:bn1", "BN301:*2"], None, ["BN101 bn1", "BN301 bn2"]),
        (None, "BN1, BN301:bn1", ["BN301 bn2"]),
        ("BN", ["BN101", "BN301"], []),
    ],
)
def test_select_and_ignore(select: Any, ignore: Any, expected: list[str]) -> None:
    report = audit_graph(forgotten(), select=select, ignore=ignore)
    assert faults(report) == expected
    assert ("selection" in report.left_out) == bool(select or ignore)


def test_select_and_ignore_in_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with forgotten().as_default():
        tf.train.export_meta_graph(str(tmp_path / "a.meta"))
    command = ["audit", str(tmp_path / "a.meta")]
    assert cli.main([*command, "--select", "BN2"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "no faults found in what could be checked: only BN2 by --select"
    assert cli.main([*command, "--ignore", "BN301", "--ignore", "BN101:bn[12]"]) == 0
    assert cli.main([*command, "--ignore", "BN301"]) == 1
    assert cli.main([*command, "--ignore", "BN7"]) == 2
    assert "--ignore 'BN7' fits no rule; the rules are BN101, " in capsys.readouterr().err


def test_ignore_in_a_test() -> None:
    with pytest.raises(AssertionError, match="BN301 bn2"):
        assert_batch_norm(forgotten(), ignore=["BN101", "BN301:bn1"])
    assert_batch_norm(forgotten(), ignore=["BN101", "BN301"])


# ---- where in the source -------------------------------------------------------------------------


def built_here() -> tuple[tf.Graph, dict[str, int]]:
    first = inspect.currentframe().f_lineno  # type: ignore[union-attr]
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 5])
        mean, variance = tf.nn.moments(x, [0])
        y = tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3)
        logits = dense(y, 3, "fc")
        tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_mean(logits**2), name="train")
    return graph, {"layer": first + 4, "training op": first + 6}


def test_a_fault_of_a_live_graph_says_where_its_layer_was_built() -> None:
    graph, lines = built_here()
    here = Path(__file__).name
    (fault,) = audit_graph(graph).faults
    assert fault.rule == "BN201"
    assert fault.message.endswith(f"{here}:{lines['layer']})")
    assert "(layer built at " in fault.message


def test_a_fault_of_training_says_where_the_training_op_was_built() -> None:
    with tf.Graph().as_default() as graph:
        images, labels = inputs()
        logits = dense(stored_norm(dense(images, 5, "fc1"), None, "bn1"), 10, "fc2")
        line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
        tf.train.AdamOptimizer().minimize(loss_of(labels, logits), name="train")
    (fault,) = audit_graph(graph).faults
    assert fault.message.endswith(f"training op built at {_near(__file__)}:{line})")
    assert "corpus/frozen.py:" in fault.message


def _near(path: str) -> str:
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if here in Path(path).parents else path


def test_an_imported_graph_was_built_elsewhere() -> None:
    graph, _ = built_here()
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(graph.as_graph_def(), name="")
    (fault,) = audit_graph(imported).faults
    assert "built at" not in fault.message
