"""Property tests of the readers: any bytes give a right answer or UserError, soon and small.

With `-m soak` each reader is explored for SOAK_SECONDS with values that differ every time.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from support import fuzz_targets as targets
from support.hostile_files import HEADER, table

hypothesis = pytest.importorskip("hypothesis", reason="pip install '.[test]'")
from hypothesis import HealthCheck, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from alexnet_tf1.data import cifar10  # noqa: E402

SOAK_SECONDS = 25.0


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", targets.IMAGES)


Explore = functools.partial[int]  # of `_explore`, for so many seconds


@pytest.fixture(params=[0.0, pytest.param(SOAK_SECONDS, marks=pytest.mark.soak)])
def explore(request: pytest.FixtureRequest) -> Explore:
    """Tries a check on so many values, always the same ones; in a soak on others for long."""
    return functools.partial(_explore, request.param)


def _explore(
    seconds: float, check: Callable[[Any], Any], values: st.SearchStrategy[Any], examples: int
) -> int:
    """Tries a check on many values.

    Args:
      seconds: to go on for with values of their own; 0 for none.
      check: fails where the value shows a fault.
      values: to draw from.
      examples: how many.

    Returns:
      On how many values the reader had an answer.
    """
    tried = answered = 0

    @settings(
        max_examples=examples,
        derandomize=not seconds,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(values)
    def prove(value: Any) -> None:
        nonlocal tried, answered
        tried += 1
        answered += targets.within_bounds(lambda: check(value)) is not None

    prove()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seed(time.time_ns())(prove)()
    if seconds:
        print(f" {tried:,} tried, {answered:,} answered", file=sys.stderr)
    return answered


# ---- what the files are made of ----------------------------------------------------------------

NUMBERS = [0, 1, 127, 128, 255, 1 << 15, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 64) - 1]
PIECES = st.one_of(
    st.binary(max_size=8),
    st.sampled_from(NUMBERS).map(lambda n: n.to_bytes(8, "little")),
    st.sampled_from([b"[" * 2_000, b"{" * 50, b'"', b"\n", b"1e999", b"NaN", b"-", b"0" * 400]),
)


@st.composite
def mutated(draw: Any, valid: Callable[[], bytes]) -> bytes:
    """A valid file after a few flips, cuts, insertions and repetitions."""
    data = bytearray(valid())
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 40))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "replace", "remove", "repeat"]))
        if kind == "flip" and data:
            data[min(at, len(data) - 1)] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = draw(PIECES)
        elif kind == "replace":
            piece = draw(PIECES)
            data[at : at + len(piece)] = piece
        elif kind == "remove":
            del data[at : at + size]
        else:
            data[at:at] = data[at : at + size] * draw(st.sampled_from([1, 2, 100]))
    return bytes(data[: targets.LARGEST])


ANY = st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode))
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([0, 1, 20, -1, 1 << 63, 10**400, 1e-3, "synthetic", "ema", "\0", "\ud800"]),
        st.floats(),
        st.text(max_size=5),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def as_json(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


@functools.cache
def fields() -> list[str]:
    import dataclasses

    from alexnet_tf1.config import TrainConfig

    return [field.name for field in dataclasses.fields(TrainConfig)]


def from_valid(make: Callable[[], bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(mutated(make), mutated(make), ANY)


# ---- the batch reader --------------------------------------------------------------------------


def test_batches(explore: Explore) -> None:
    valid = targets.valid_batch()
    assert targets.batch(valid)[1]
    assert explore(targets.batch, from_valid(targets.valid_batch), 250) > 0


OPCODES = b"\x80\x02}q\x01(U\x04dataq\x05]e.cnumpy\nndarray\nK\x00\x85RbNT\x8e\x93h\x01sur"


def test_programs_for_the_pickle_machine(explore: Explore) -> None:
    piece = st.integers(0, len(OPCODES) - 1).map(lambda at: OPCODES[at : at + 6])
    programs = st.lists(piece | PIECES, max_size=30).map(lambda p: b"\x80\x02" + b"".join(p))
    explore(targets.batch, programs, 200)


# ---- the run folder ----------------------------------------------------------------------------


def test_config_files(tmp_path: Path, explore: Explore) -> None:
    check = functools.partial(targets.config, tmp_path)
    assert check(targets.valid_config()).dataset == "synthetic"
    assert explore(check, from_valid(targets.valid_config), 200) > 0


def test_settings(tmp_path: Path, explore: Explore) -> None:
    values = st.dictionaries(st.sampled_from(fields()), JSON, max_size=3).map(as_json)
    assert explore(functools.partial(targets.config, tmp_path), values, 200) > 0


def test_metrics_files(tmp_path: Path, explore: Explore) -> None:
    check = functools.partial(targets.metrics, tmp_path)
    assert [record["step"] for record in check(targets.valid_metrics())] == [10, 20, 30, 40, 50]
    assert explore(check, from_valid(targets.valid_metrics), 200) > 0


def test_records(tmp_path: Path, explore: Explore) -> None:
    values = st.lists(JSON.map(as_json), max_size=4).map(b"\n".join)
    assert explore(functools.partial(targets.metrics, tmp_path), values, 150) > 0


# ---- the graph reader --------------------------------------------------------------------------


def test_graph_files(tmp_path: Path, explore: Explore) -> None:
    check = functools.partial(targets.graph, tmp_path)
    assert len(check(targets.valid_graph()).faults) == 1
    assert explore(check, from_valid(targets.valid_graph), 125) > 0


OPS = (
    "Identity Const Switch Merge Enter NextIteration Mul Add Sub Pow RealDiv Mean Rsqrt Cast Pack "
    "Reshape Select Fill If While Case PartitionedCall FusedBatchNormV3 Placeholder ReadVariableOp "
    "AssignVariableOp AssignSub Assign VariableV2 VarHandleOp ResourceApplyAdam SoftmaxWithLogits "
    "PyFunc WriteFile IdentityN StridedSlice ConcatV2 Squeeze NoSuchOp _Arg _Ret _Call _Frame f g"
).split()
ATTRIBUTES = "value dtype T DstT is_training axis begin_mask body cond then_branch branches f N _x"


@st.composite
def edited(draw: Any, graphs: tuple[int, ...] = ()) -> Any:
    """A MetaGraph after a few edits of its nodes, as a graph and not as bytes.

    It is the small one, or one of the real ones where their numbers are given.
    """
    import tensorflow.compat.v1 as tf

    number = draw(st.sampled_from(graphs)) if graphs else None
    valid = targets.valid_graph() if number is None else targets.real_graph(number)
    meta = tf.MetaGraphDef.FromString(valid)
    graph = meta.graph_def
    names = [node.name for node in graph.node]
    for name in ("f", "g"):
        function = graph.library.function.add()
        function.signature.name = name
        function.signature.input_arg.add(name="a")
        function.signature.output_arg.add(name="r")
        function.node_def.add(name="n", op=draw(st.sampled_from(OPS)), input=["a"])
        function.ret["r"] = draw(st.sampled_from(["n:r:0", "a", "n", "nothing", "n:x:y"]))
    for _ in range(draw(st.integers(1, 8))):
        node = graph.node[draw(st.integers(0, len(graph.node) - 1))]
        kind = draw(
            st.sampled_from(["op", "input", "input", "attr", "value", "name", "drop", "cut"])
        )
        if kind == "op":
            node.op = draw(st.sampled_from(OPS))
        elif kind == "input":
            tail = draw(st.sampled_from(["", ":0", ":1", ":-1", ":x", ":99", ":r:0", ":²"]))
            source = draw(st.sampled_from(["", "^"])) + draw(st.sampled_from(names)) + tail
            if node.input and draw(st.booleans()):
                node.input[draw(st.integers(0, len(node.input) - 1))] = source
            else:
                node.input.append(source)
        elif kind == "attr":
            value = node.attr[draw(st.sampled_from(ATTRIBUTES.split()))]
            with contextlib.suppress(DecodeError):
                value.ParseFromString(draw(st.binary(max_size=20)))
            value.type = draw(st.integers(0, 200))
        elif kind == "value":  # a constant, perhaps of a type that has none, or of no elements
            tensor = node.attr["value"].tensor
            tensor.dtype = draw(st.integers(0, 30) | st.integers(100, 130))
            for _ in range(draw(st.integers(0, 2))):
                tensor.tensor_shape.dim.add(size=draw(st.sampled_from([-1, 0, 1, 2, 1 << 62])))
        elif kind == "name":
            node.name = draw(st.sampled_from(names) | st.text(max_size=3))
        elif kind == "drop":
            graph.node.remove(node)
        elif node.input:
            del node.input[draw(st.integers(0, len(node.input) - 1)) :]
    return meta


def test_graphs(explore: Explore) -> None:
    from alexnet_tf1.batchnorm.audit import audit_graph

    def check(meta: Any) -> Any:
        return targets.checked_report(audit_graph(meta))

    assert explore(check, edited(), 100) > 0


def test_real_graphs(explore: Explore) -> None:
    """As `test_graphs`, of our own network and of the corpus: loops, functions, Keras, frozen."""
    from alexnet_tf1.batchnorm.audit import audit_graph

    is_soak = explore.args[0] > 0
    graphs = tuple(range(500)) if is_soak else (0, 40, 120)

    def check(meta: Any) -> Any:
        return targets.checked_report(audit_graph(meta))

    assert explore(check, edited(graphs), 200 if is_soak else 12) > 0


# ---- the checkpoint reader ---------------------------------------------------------------------


def test_checkpoint_indexes(tmp_path: Path, explore: Explore) -> None:
    index, shard = targets.valid_checkpoint(tmp_path)

    def check(data: bytes) -> Any:
        return targets.checkpoint(tmp_path, data, shard)

    assert check(index).layers
    assert explore(check, from_valid(lambda: index), 200) > 0


@st.composite
def forged(draw: Any) -> bytes:
    """An index whose checksums are right, with entries of any content."""
    from tensorflow.core.protobuf import tensor_bundle_pb2

    number = st.sampled_from([0, 1, 2, 3, 4, 12, -1, 1 << 31, 1 << 40, 1 << 62, (1 << 63) - 1])
    entries = [HEADER]
    for name in sorted({draw(st.text(max_size=4)) for _ in range(draw(st.integers(0, 3)))}):
        entry = tensor_bundle_pb2.BundleEntryProto()
        entry.dtype = draw(st.integers(0, 30) | st.integers(95, 130))
        for _ in range(draw(st.integers(0, 3))):
            entry.shape.dim.add(size=draw(number))
        entry.shape.unknown_rank = draw(st.sampled_from([False, False, True]))
        entry.offset, entry.size = draw(number), draw(number)
        entry.shard_id = draw(st.sampled_from([0, 0, 0, 1, -1]))
        if draw(st.booleans()):
            extent = entry.slices.add().extent.add(start=draw(number))
            extent.length = draw(number)
        entries.append((f"{name}/moving_mean".encode(), entry.SerializeToString()))
    return table(entries)


def test_checkpoint_indexes_with_right_checksums(tmp_path: Path, explore: Explore) -> None:
    def check(data: bytes) -> Any:
        return targets.checkpoint(tmp_path, data, bytes(64))

    assert explore(check, forged(), 200) > 0


# ---- the bounds themselves ---------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["memory", "another error", "a wrong answer"])
def test_the_fuzzers_see_faults(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The properties can fail: each kind of fault, put into a reader, is found."""
    import json

    def faulty(path: Path, data: bytes) -> dict[str, object]:
        if fault == "memory":
            bytearray(2 * targets.MEMORY)
        return dict(json.loads("[")) if fault == "another error" else {}

    monkeypatch.setattr(cifar10, "_unpickled", faulty)
    monkeypatch.setattr(targets, "MEMORY", 1 << 20)  # or shrinking what fails takes seconds
    if fault == "a wrong answer":
        monkeypatch.setattr(cifar10, "_images", lambda *_: np.zeros(3))
        monkeypatch.setattr(cifar10, "_labels", lambda *_: [1])
    with pytest.raises((AssertionError, ValueError)):
        _explore(0, targets.batch, ANY, 5)


# ---- coverage-guided ---------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris is not installed")
@pytest.mark.parametrize("name", ["batch", "config", "metrics", "graph", "checkpoint"])
def test_atheris_finds_nothing(name: str, tmp_path: Path) -> None:
    script = Path(__file__).parent / "support" / "fuzz_atheris.py"
    done = subprocess.run(
        [sys.executable, script, name, f"-max_total_time={SOAK_SECONDS:.0f}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stderr.splitlines()[-1], file=sys.stderr)
