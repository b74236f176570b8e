"""What the fuzzers call: each reader, with any bytes, answers rightly or raises UserError.

Anything else is a fault: another error, an answer that breaks a promise, more than SECONDS, more
than MEMORY bytes. test_fuzz.py drives these with hypothesis, fuzz_atheris.py with coverage.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data import cifar10
from alexnet_tf1.errors import UserError
from alexnet_tf1.runs import folder as runs
from support.cifar10_files import python2_batch, random_batch

MEMORY = 64 << 20  # bytes that reading a file of at most LARGEST may take
LARGEST = 64 << 10
SECONDS = 10.0  # on a busy machine; a thousandth of it is usual
IMAGES = 2  # in a batch

Target = Callable[[bytes], Any]


def batch(data: bytes) -> Any:
    """cifar10's reader of a batch and of the class names."""
    path = Path("test_batch")
    content = cifar10._unpickled(path, data)
    images, labels = cifar10._images(path, content), cifar10._labels(path, content)
    assert (images.dtype, images.shape) == (np.uint8, (IMAGES, 3072))
    assert len(labels) == IMAGES
    assert set(labels) <= set(range(10))
    return images, labels


def config(folder: Path, data: bytes) -> TrainConfig:
    """runs.open_run of a folder whose config.json holds the bytes."""
    (folder / runs.CONFIG).write_bytes(data)
    found = runs.open_run(str(folder)).config
    assert TrainConfig(**dataclasses.asdict(found)) == found  # every check of it holds
    return found


def metrics(folder: Path, data: bytes) -> list[dict[str, Any]]:
    """Run.metrics of a folder whose metrics.jsonl holds the bytes."""
    (folder / runs.METRICS).write_bytes(data)
    found = runs.Run(folder, TrainConfig()).metrics()
    assert all(type(record) is dict for record in found)
    return found


def graph(folder: Path, data: bytes, name: str = "fuzz.meta") -> Any:
    """The audit of a file that holds the bytes."""
    from alexnet_tf1.batchnorm.audit import audit_file

    (folder / name).write_bytes(data)
    return checked_report(audit_file(folder / name))


def checked_report(report: Any) -> Any:
    json.dumps(report.to_json("fuzz"), allow_nan=False)
    layers = {name for name, _ in report.layers}
    assert all(fault.layer in layers for fault in report.faults)
    return report


def checkpoint(folder: Path, index: bytes, shard: bytes) -> Any:
    """The doctor on a checkpoint whose index holds the bytes."""
    from alexnet_tf1.batchnorm.doctor import examine_checkpoint

    (folder / "fuzz.index").write_bytes(index)
    (folder / "fuzz.data-00000-of-00001").write_bytes(shard)
    report = examine_checkpoint(folder / "fuzz")
    json.dumps(report.to_json(), allow_nan=False)
    return report


def within_bounds(call: Callable[[], Any]) -> Any:
    """Calls; None where that raised UserError, as it may; else what it answered.

    Raises:
      AssertionError: if it took too long or too much memory.
      Exception: what else was raised; each is a fault.
    """
    tracemalloc.start()
    started = time.perf_counter()
    answer = None
    try:
        with contextlib.suppress(UserError):
            answer = call()
        took, (_, peak) = time.perf_counter() - started, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert took < SECONDS, f"{took:.1f} s"
    assert peak < MEMORY, f"{peak / 2**20:.0f} MiB"
    return answer


# ---- valid files to begin with -------------------------------------------------------------------


@functools.cache
def valid_batch() -> bytes:
    return python2_batch(*random_batch(IMAGES))


@functools.cache
def valid_config() -> bytes:
    return json.dumps(dataclasses.asdict(TrainConfig(dataset="synthetic")), indent=2).encode()


@functools.cache
def valid_metrics() -> bytes:
    records = [{"step": step, "loss": 2.3, "accuracy": 0.1} for step in range(10, 60, 10)]
    return "".join(json.dumps(record) + "\n" for record in records).encode()


@functools.cache
def valid_graph() -> bytes:
    """A MetaGraph of one layer whose updates are forgotten; 20 kB, as it lists no ops."""
    import tensorflow.compat.v1 as tf
    from corpus.cases import dense, inputs, loss_of, minimize, moments_norm, switch

    with tf.Graph().as_default():
        images, labels = inputs()
        logits = dense(moments_norm(images, switch(), "bn1"), 10, "fc")
        minimize(loss_of(labels, logits), [])
        meta = tf.train.export_meta_graph()
    meta.meta_info_def.ClearField("stripped_op_list")
    return bytes(meta.SerializeToString())


@functools.cache
def real_graph(number: int) -> bytes:
    """A MetaGraph such as people write: 0, of our own network; else one of the corpus."""
    import tensorflow.compat.v1 as tf
    from corpus.cases import CASES, built
    from corpus.table import PARTS

    from alexnet_tf1 import build_alexnet

    assert PARTS  # importing them fills CASES
    if number == 0:
        with tf.Graph().as_default() as graph:
            build_alexnet()
            tf.train.Saver()
    else:
        graph, _ = built(CASES[number % len(CASES)])
    with graph.as_default():
        return bytes(tf.train.export_meta_graph().SerializeToString())


def valid_checkpoint(folder: Path) -> tuple[bytes, bytes]:
    """The index and the only data file of a checkpoint with a layer and a counter."""
    from support.saved import layer, save

    prefix = save(folder / "valid", layer("bn") | {"global_step": np.int64(7)})
    paths = [Path(f"{prefix}.index"), Path(f"{prefix}.data-00000-of-00001")]
    index, shard = (path.read_bytes() for path in paths)
    for path in paths:
        os.unlink(path)
    return index, shard
