"""Files from strangers are read, never run: graphs, checkpoints, pickles, archives."""

from __future__ import annotations

import ast
import json
import os
import pickle
import tarfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from corpus.cases import dense, inputs, loss_of, minimize, moments_norm, switch
from corpus.single import network
from support.cifar10_files import FILES, python2_batch, random_batch
from support.hostile_files import ENDLESS, FORGED, entry, one, write_checkpoint
from support.saved import layer, save

import alexnet_tf1
from alexnet_tf1.batchnorm.audit import audit_file, audit_graph
from alexnet_tf1.batchnorm.graph import flatten
from alexnet_tf1.checkpoint import reader as checkpoint_files
from alexnet_tf1.cli import main as cli
from alexnet_tf1.data import cifar10

OPS = ("PyFunc", "EagerPyFunc", "ReadFile", "WriteFile")

# ---- graphs whose ops write, read and call -----------------------------------------------------


class Trap:
    """A graph that, when it is run, writes files, reads a file and calls Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "secret"
        self.secret.write_text("secret")
        with tf.Graph().as_default() as self.graph:
            self.images, labels = inputs()
            x = moments_norm(self.images, switch(), "bn1") + self._zero()
            self.logits = tf.identity(dense(x, 10, "fc"), name="logits")
            with tf.control_dependencies([self._write("step")]):
                step = minimize(loss_of(labels, self.logits))
                self.train_op = tf.group(step, self._call("step"), name="train_op")

    def _zero(self) -> Any:
        """Zero, in the path to the logits: takes a write, a read and two calls to compute."""

        def eager(value: Any) -> Any:
            (self.folder / "called-eager").touch()
            return value

        with tf.control_dependencies([self._write("forward")]):
            length = tf.strings.length(tf.io.read_file(str(self.secret)))
        number = tf.py_function(eager, [tf.cast(length, tf.float32)], tf.float32)
        return 0 * (tf.reshape(number, []) + tf.reshape(self._call("forward"), []))

    def _write(self, name: str) -> Any:
        return tf.io.write_file(str(self.folder / f"written-{name}"), "x")

    def _call(self, name: str) -> Any:
        def touch(value: Any) -> Any:
            (self.folder / f"called-{name}").touch()
            return value

        return tf.py_func(touch, [tf.constant(0.0)], tf.float32)

    def traces(self) -> set[str]:
        """What running it left behind."""
        return {path.name for path in self.folder.glob("*-*")}

    def save(self, kind: str) -> Path:
        """Writes it as a .meta file or as a SavedModel."""
        path = self.folder / "model.meta"
        with self.graph.as_default():
            if kind == "meta":
                tf.train.export_meta_graph(str(path))
                return path
            path = self.folder / "model"
            with tf.Session() as session:
                session.run(tf.global_variables_initializer())
                outputs = {"y": self.logits}
                tf.saved_model.simple_save(session, str(path), {"x": self.images}, outputs)
            return path


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path)


def test_the_trap_is_real(trap: Trap) -> None:
    """Run in a session, the graph does write and call: the next test can fail."""
    with trap.graph.as_default(), tf.Session() as session:
        session.run(tf.global_variables_initializer())
        pixels = np.zeros([4, *trap.images.shape.as_list()[1:]])
        session.run(
            trap.train_op, {trap.images: pixels, "labels:0": [0] * 4, "is_training:0": True}
        )
    written = {"written-forward", "written-step"}
    assert trap.traces() == written | {"called-eager", "called-forward", "called-step"}


@pytest.mark.parametrize("kind", ["meta", "saved model"])
def test_an_audit_runs_nothing(trap: Trap, kind: str, capsys: Any, monkeypatch: Any) -> None:
    path = trap.save(kind)
    read = os.stat(trap.secret).st_atime_ns
    for name in ("Session", "import_graph_def"):
        monkeypatch.setattr(tf, name, _forbidden)
    names = ["--logits", "logits", "--train-op", "train_op", "--is-training", "is_training"]
    assert cli.main(["audit", str(path), "--json", *names]) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in found["layers"]] == ["bn1"]
    definitions = trap.graph.as_graph_def().node
    assert {node.op for node in definitions}.issuperset(OPS)
    for node in definitions:
        if node.op in OPS:  # named as what training runs, or as what inference computes
            audit_file(path, [node.name], "logits", "is_training")
            audit_file(path, "train_op", node.name, "is_training")
    assert trap.traces() == set()
    assert os.stat(trap.secret).st_atime_ns == read


def _forbidden(*_: Any, **__: Any) -> None:
    raise AssertionError("something of the file is about to be run")


# ---- graphs without end ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENDLESS)
def test_no_graph_takes_for_ever(name: str, monkeypatch: Any) -> None:
    """The table of nodes stays within its bound, and numbers within 64 bits."""
    monkeypatch.setattr(flatten, "MAX_NODES", 20_000)  # with all 400,000 it takes 4 s
    started = time.perf_counter()
    most = flatten.MAX_NODES + len(ENDLESS[name].node)
    assert len(flatten.FlatGraph(ENDLESS[name]).nodes) <= most
    audit_graph(ENDLESS[name])
    assert time.perf_counter() - started < 20


def test_names_cannot_write_to_the_terminal(tmp_path: Path, capsys: Any) -> None:
    with tf.Graph().as_default():
        network(moments_norm, switch(), before=[])
        data = tf.train.export_meta_graph().SerializeToString()
    hostile = data.replace(b"bn1", b"\x1b\nc")
    assert len(hostile) == len(data) != hostile.count(b"bn1")
    (tmp_path / "a.meta").write_bytes(hostile)
    assert cli.main(["audit", str(tmp_path / "a.meta")]) == 1
    out = capsys.readouterr().out
    assert r"BN101 \x1b\nc: " in out
    assert all(line.isprintable() for line in out.splitlines())


# ---- checkpoints -------------------------------------------------------------------------------


def test_a_forged_checkpoint_with_right_checksums_is_read(tmp_path: Path) -> None:
    """What FORGED changes is all that is wrong with it: TensorFlow itself opens this one."""
    prefix = write_checkpoint(tmp_path, one(entry(0)))
    assert list(checkpoint_files.Checkpoint(prefix).variables) == ["bn/gamma"]


@pytest.mark.parametrize("name", FORGED)
def test_forged_checkpoints_never_reach_tensorflow(name: str, tmp_path: Path, capsys: Any) -> None:
    """Its reader ends the process at the first of them, and reserves what the third asks for."""
    prefix = write_checkpoint(tmp_path, FORGED[name])
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tf.train, "NewCheckpointReader", _forbidden)
            assert cli.main(["doctor", prefix]) == 2
        assert time.perf_counter() - started < 10
        assert tracemalloc.get_traced_memory()[1] < 32e6
    finally:
        tracemalloc.stop()
    error = capsys.readouterr().err
    assert error.startswith(f"error: {prefix}: not a checkpoint, or damaged: ")
    assert error.count("\n") == 1


def test_a_name_in_a_checkpoint_is_only_a_name(tmp_path: Path, capsys: Any) -> None:
    """Names that are paths or code are printed, spelt out; nothing is opened or called."""
    names = ["../../escape", "/etc/passwd", "__import__('os')", "\x1b[2J"]
    values: dict[str, Any] = {}
    for name in names:
        values |= layer(name, variance=[-1, 1, 1])
    prefix = save(tmp_path / "model", values)
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["doctor", prefix]) == 1
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert "CK103 __import__('os'): " in out
    assert r"CK103 \x1b[2J: " in out
    assert sorted(tmp_path.rglob("*")) == before


# ---- pickles and archives, by the command line -------------------------------------------------


class Payload:
    """Unpickled by Python, runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", [FILES[0], FILES[-1], "batches.meta"])
def test_no_command_runs_a_pickle(
    name: str, packed: bool, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", 2)
    place = tmp_path / ("made" if packed else "data") / cifar10.FOLDER
    place.mkdir(parents=True)
    for file in FILES:
        (place / file).write_bytes(python2_batch(*random_batch(2)))
    trace = tmp_path / "was_here"
    attack = pickle.dumps({"data": Payload(f"touch {trace}"), "labels": [1, 2]}, protocol=2)
    (place / name).write_bytes(attack)
    if packed:
        (tmp_path / "data").mkdir()
        with tarfile.open(tmp_path / "data" / cifar10.ARCHIVE, "w:gz") as tar:
            tar.add(place, cifar10.FOLDER)
    folders = ["--data-dir", str(tmp_path / "data"), "--run-dir", str(tmp_path / "run")]
    assert cli.main(["train", "--dataset", "cifar10", *folders]) == 2
    error = capsys.readouterr().err
    assert f"{name} names 'posix.system'" in error
    assert error.count("\n") == 1
    assert not trace.exists()
    assert not (tmp_path / "run").exists()
    pickle.loads(attack)  # the attack is real
    assert trace.exists()


# ---- the package itself ------------------------------------------------------------------------

MODULES = {"marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "subprocess", "runpy"}
CALLS = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
METHODS = {
    "system", "popen", "import_meta_graph", "import_graph_def", "py_func", "py_function",
    "numpy_function", "load_model", "load_library", "load_op_library", "import_module",
    "Unpickler", "extractall",
}  # fmt: skip
LOADERS = {"json", "restricted_pickle"}  # whose load and loads only parse
LOADERS |= {"self", "variable"}  # a variable's load takes an array
KNOWN = {  # by file: what is loaded there is not what a file holds
    "__init__.py": ["importlib.import_module"],  # of the package's own names
    # Runs a stranger's graph after `trust.refuse_untrusted`; tested there.
    "batchnorm/model/copies.py": ["tf.import_graph_def"],
    "batchnorm/model/feeds.py": ["np.load", "np.load"],  # without pickles
    "batchnorm/model/write.py": ["tf.import_graph_def"],  # a part of what copies.py has run
    "batchnorm/rules/registry.py": ["importlib.import_module"],  # of the rules beside it
    # Starts itself; what that writes, without pickles, is all that is loaded.
    "checkpoint/v1.py": ["subprocess", "np.load"],
    # Whose find_class imports nothing, after a pass over the opcodes; tested there.
    "data/restricted_pickle.py": ["pickle.Unpickler", "?.load"],
    "distributed/launch.py": ["subprocess"],  # starts this program
    "serving/export.py": ["?.import_meta_graph", "?.load"],  # the graph that it has just built
    "serving/images.py": ["image.load"],  # Pillow decodes, within the bounds tested there
    "system/gpu.py": ["subprocess"],  # imports TensorFlow once more, for its log
}


def dangers(source: str) -> list[str]:
    """What in a module's text could run what a file holds."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""] * (node.module != "pickle") or ["pickle.*"]
            found += [n for n in names if n.split(".")[0] in MODULES or n == "pickle.*"]
        elif isinstance(node, ast.Name) and node.id in CALLS:
            found.append(node.id)
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else "?"
            if node.attr in METHODS or (node.attr in ("load", "loads") and owner not in LOADERS):
                found.append(f"{owner}.{node.attr}")
            elif owner == "pickle" and not node.attr.isupper():  # opcodes are only numbers
                found.append(f"pickle.{node.attr}")
    return found


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)", "exec(text)", "compile(text, '', 'exec')", "__import__(name)",
        "import marshal", "import yaml", "from shelve import open", "import os, subprocess",
        "pickle.load(file)", "pickle.loads(data)", "pickle.Unpickler(file)", "import dill.source",
        "from pickle import loads", "np.load(path, allow_pickle=True)", "tf.saved_model.load(p)",
        "tf.import_graph_def(graph)", "tf.train.import_meta_graph(path)", "os.system(text)",
        "tar.extractall(path)", "[tf.py_func for _ in ()]", "tf.load_op_library(path)",
    ],
)  # fmt: skip
def test_the_search_for_dangers_finds_them(line: str) -> None:
    assert len(dangers(line)) == 1
    assert dangers("import json, pickle\njson.loads(text)\npickle.STOP\nevaluate(1)") == []


def test_no_module_can_run_what_a_file_holds() -> None:
    package = Path(alexnet_tf1.__file__).parent
    modules = sorted(package.rglob("*.py"))
    assert len(modules) > 30
    found = {
        str(path.relative_to(package)): dangers(path.read_text(encoding="utf-8"))
        for path in modules
    }
    assert {path: names for path, names in found.items() if names} == KNOWN
