"""The audit of files: MetaGraphs, SavedModels, and what is neither; what is not named."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from corpus.cases import Net, conv, dense, inputs, loss_of, minimize, moments_norm, stored, switch
from corpus.networks import _towers
from corpus.others import optimisers
from corpus.single import network
from tensorflow.core.protobuf import saved_model_pb2

from alexnet_tf1.batchnorm.audit import audit_file, audit_graph
from alexnet_tf1.batchnorm.doctor import examine_checkpoint
from alexnet_tf1.batchnorm.graph.locate import locate
from alexnet_tf1.errors import UserError


def faults(report: Any) -> list[str]:
    return [f"{fault.rule} {fault.layer}" for fault in report.faults]


BOTH = ["BN101 bn1", "BN101 bn2"]


@pytest.fixture
def forgotten() -> tuple[tf.Graph, Net]:
    with tf.Graph().as_default() as graph:
        return graph, network(moments_norm, switch(), before=[])


def save_model(folder: Path, graph: tf.Graph, net: Net, **kwargs: Any) -> str:
    with tf.Session(graph=graph) as session, graph.as_default():
        session.run(tf.global_variables_initializer())
        images = graph.get_tensor_by_name("images:0")
        if kwargs:
            builder = tf.saved_model.Builder(str(folder))
            signature = tf.saved_model.predict_signature_def({"x": images}, {"y": net.logits})
            for number, tags in enumerate(kwargs["tags"]):
                add = builder.add_meta_graph if number else builder.add_meta_graph_and_variables
                args = [tags] if number else [session, tags]
                add(*args, signature_def_map={"classify": signature, "again": signature})
            builder.save()
        else:
            tf.saved_model.simple_save(session, str(folder), {"x": images}, {"y": net.logits})
    return str(folder)


# ---- what is not named is found ------------------------------------------------------------


def test_everything_is_found_in_a_live_graph(forgotten: Any) -> None:
    graph, net = forgotten
    report = audit_graph(graph)
    assert faults(report) == BOTH
    notes = " ".join(report.notes)
    assert "fc2/logits:0" in notes
    assert "is_training:0" in notes
    assert net.train_ops.name in notes


def test_training_op_is_the_group_that_the_optimiser_leads_to() -> None:
    with tf.Graph().as_default() as graph:
        net = network(moments_norm, switch(), before=[])
        tf.group(net.train_ops, *tf.get_collection(tf.GraphKeys.UPDATE_OPS), name="step")
    report = audit_graph(graph)
    assert report.faults == []
    assert any("step" in note for note in report.notes)


def test_graph_def_without_collections(forgotten: Any) -> None:
    assert faults(audit_graph(forgotten[0].as_graph_def())) == BOTH


def test_gradients_written_by_hand_are_no_averages_without_collections_either() -> None:
    with tf.Graph().as_default() as graph:
        net = optimisers()
    names = [part.name for part in net]
    report = audit_graph(graph.as_graph_def(), *names)
    assert report.faults == []
    assert report.layers == [("bn1", ["bn1/moving_mean", "bn1/moving_variance"])]


def test_an_inverse_switch_is_understood() -> None:
    with tf.Graph().as_default() as graph:
        testing = tf.placeholder(tf.bool, [], name="is_test")
        network(moments_norm, tf.logical_not(testing))
    report = audit_graph(graph)
    assert report.faults == []
    assert any("True meaning inference" in note for note in report.notes)


@pytest.mark.parametrize(
    ("decide", "value"),
    [
        (lambda mode: tf.equal(mode, 0), 0),
        (lambda mode: tf.equal(mode, 1), 1),
        (lambda mode: tf.equal(mode, 2), 2),
        (lambda mode: tf.greater(mode, 4), 5),
        (lambda mode: tf.not_equal(tf.cast(mode, tf.int64), 3), 0),
    ],
)
@pytest.mark.parametrize("given", [None, "mode"])
def test_a_number_as_the_switch(decide: Any, value: int, given: str | None) -> None:
    with tf.Graph().as_default() as graph:
        network(moments_norm, decide(tf.placeholder(tf.int32, [], name="mode")))
    report = audit_graph(graph, is_training=given)
    assert report.faults == []
    (said,) = [note for note in report.notes if note.startswith("is_training")] or [""]
    assert said.startswith(f"is_training: mode:0, {value} meaning training") == (given is None)


def test_other_switches_do_not_confuse() -> None:
    with tf.Graph().as_default() as graph:
        images, labels = inputs()
        drop = tf.placeholder(tf.bool, [], name="use_dropout")
        x = moments_norm(conv(images, 6, "conv1"), switch(), "bn1")
        x = tf.cond(drop, lambda: tf.nn.dropout(x, rate=0.5), lambda: tf.identity(x))
        minimize(loss_of(labels, dense(x, 10, "fc2")), [])
    assert faults(audit_graph(graph)) == ["BN101 bn1"]


@pytest.mark.parametrize("option", ["train_ops", "logits", "is_training"])
def test_a_name_that_is_not_there_gets_near_ones(forgotten: Any, option: str) -> None:
    names = {"train_ops": "GradientDescend", "logits": "fc2/logit:0", "is_training": "is_trainin"}
    near = {"train_ops": "GradientDescent", "logits": "fc2/logits", "is_training": "is_training"}
    with pytest.raises(UserError, match=rf"not in the graph; did you mean .*{near[option]}"):
        audit_graph(forgotten[0], **{option: names[option]})


def test_json(forgotten: Any) -> None:
    answer = audit_graph(forgotten[0]).to_json("a.meta")
    assert answer["graph"] == "a.meta"
    assert answer["layers"][0] == {
        "name": "bn1",
        "moving_averages": ["bn1/moving_mean", "bn1/moving_variance"],
    }
    fault = answer["faults"][0]
    assert sorted(fault) == ["layer", "message", "rule"]
    assert "bn1/moving_mean" in fault["message"]
    assert "tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS))" in fault["message"]


# ---- files -----------------------------------------------------------------------------------


def test_meta_file(forgotten: Any, tmp_path: Path) -> None:
    graph, net = forgotten
    path = tmp_path / "model.meta"
    with graph.as_default():
        tf.train.export_meta_graph(str(path))
    assert faults(audit_file(path)) == BOTH
    assert faults(audit_file(path, net.train_ops.name, net.logits.name, "is_training:0")) == BOTH


def test_every_name_of_a_checkpoint_that_the_doctor_takes(forgotten: Any, tmp_path: Path) -> None:
    """A run folder of this program's, a folder of checkpoints, a prefix, each file of it."""
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    with forgotten[0].as_default(), tf.Session() as session:
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver()
        for step in (9, 10):
            saver.save(session, str(folder / "model.ckpt"), step)
    files = [folder / f"model.ckpt-9{part}" for part in ("", ".index", ".data-00000-of-00001")]
    for path in (tmp_path / "run", folder, folder / "checkpoint", *files):
        assert faults(audit_file(path)) == BOTH
        prefix = examine_checkpoint(path).checkpoint
        assert locate(path) == (Path(f"{prefix}.meta"), prefix)
        assert prefix == str(folder / f"model.ckpt-{9 if path in files else 10}")


def test_saved_model_with_its_training_graph(forgotten: Any, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", *forgotten)
    report = audit_file(folder)
    assert faults(report) == BOTH
    assert faults(audit_file(Path(folder) / "saved_model.pb")) == BOTH


def test_saved_model_for_inference_only(tmp_path: Path) -> None:
    for training, expected in ((False, []), (True, ["BN201 bn1", "BN201 bn2"])):
        with tf.Graph().as_default() as graph:
            images, _ = inputs()

            def norm(x: tf.Tensor, name: str, training: bool = training) -> tf.Tensor:
                with tf.variable_scope(name):
                    kept = stored(int(x.shape[-1]))
                    mean, variance = kept.mean, kept.variance
                    if training:
                        mean, variance = tf.nn.moments(x, list(range(len(x.shape) - 1)))
                    return tf.nn.batch_normalization(x, mean, variance, kept.beta, kept.gamma, 1e-3)

            x = norm(conv(images, 6, "conv1"), "bn1")
            net = Net(None, dense(norm(dense(x, 5, "fc1"), "bn2"), 10, "fc2"))
        report = audit_file(save_model(tmp_path / str(training), graph, net))
        assert faults(report) == expected
        assert any("BN101, BN102 and BN103 were not checked" in note for note in report.notes)


def test_saved_model_of_the_wrong_tower(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        net = _towers(True)
    wrong = net._replace(logits=graph.get_tensor_by_name("fc2/logits:0"))
    assert faults(audit_file(save_model(tmp_path / "right", graph, net))) == []
    report = audit_file(save_model(tmp_path / "wrong", graph, wrong))
    assert faults(report) == ["BN201 bn1", "BN203 bn1", "BN201 bn2", "BN203 bn2"]


def test_tags_and_signatures(forgotten: Any, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", *forgotten, tags=[["train"], ["other", "gpu"]])
    with pytest.raises(UserError, match=r"choose one by its tags: gpu,other; train"):
        audit_file(folder)
    with pytest.raises(UserError, match="no graph tagged serve"):
        audit_file(folder, tags=["serve"])
    assert faults(audit_file(folder, tags=["train"], signature="classify")) == BOTH
    with pytest.raises(UserError, match="no signature 'nothing'; it has: again, classify"):
        audit_file(folder, tags=["gpu", "other"], signature="nothing")


@pytest.mark.parametrize("right", [True, False])
def test_saved_model_of_functions(tmp_path: Path, right: bool) -> None:
    """TensorFlow 2 writes the whole signature as functions within functions."""

    class Model(tf2.Module):
        def __init__(self) -> None:
            super().__init__()
            ones = tf2.ones([5])
            self.mean = tf2.Variable(0 * ones, trainable=False, name="norm/moving_mean")
            self.variance = tf2.Variable(ones, trainable=False, name="norm/moving_variance")
            self.gamma = tf2.Variable(ones, name="norm/gamma")

        @tf2.function(input_signature=[tf2.TensorSpec([None, 5])])
        def __call__(self, x: tf2.Tensor) -> tf2.Tensor:
            mean, variance = self.mean, self.variance
            if not right:
                mean, variance = tf2.nn.moments(x, [0])
                self.mean.assign_sub(0.1 * (self.mean - mean))
                self.variance.assign_sub(0.1 * (self.variance - variance))
            return tf2.nn.batch_normalization(x, mean, variance, None, self.gamma, 1e-3)

    tf2.saved_model.save(Model(), str(tmp_path / "model"))
    report = audit_file(tmp_path / "model")
    assert len(report.layers) == 1
    assert [f.rule for f in report.faults] == ([] if right else ["BN201", "BN202", "BN203"])


def test_what_is_no_graph(tmp_path: Path) -> None:
    cases: dict[str, Any] = {
        "text.meta": b"model_checkpoint_path: model\nnot a graph at all\n",
        "empty.meta": b"",
        "random.meta": np.random.RandomState(0).bytes(4096),
        "random.pb": np.random.RandomState(1).bytes(4096),
        "zeros.meta": bytes(64),
        "saved.pb": saved_model_pb2.SavedModel().SerializeToString() or b"\x08\x01",
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    for name in [*cases, "folder", "missing.meta"]:
        with pytest.raises(UserError) as caught:
            audit_file(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


def test_random_bytes_never_end_in_another_error(tmp_path: Path, forgotten: Any) -> None:
    """Cut and damaged graphs are audited or refused in words."""
    with forgotten[0].as_default():
        whole = tf.train.export_meta_graph().SerializeToString()
    random = np.random.RandomState(2)
    path = tmp_path / "damaged.meta"
    for _ in range(40):
        data = bytearray(whole[: random.randint(1, len(whole))])
        for _ in range(random.randint(0, 4)):
            data[random.randint(len(data))] = random.randint(256)
        path.write_bytes(bytes(data))
        with contextlib.suppress(UserError):
            audit_file(path)


def test_not_a_graph_object() -> None:
    with pytest.raises(UserError, match="graph is a int"):
        audit_graph(3)
