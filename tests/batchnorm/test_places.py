"""Where in the source a fault is: in a SavedModel, by the debug information that lies in it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.framework import graph_debug_info_pb2

from alexnet_tf1.batchnorm.audit import audit_file

DEBUG = "debug/saved_model_debug_info.pb"


class Net(tf.Module):
    """Normalises with the batch, in inference too; in a function in a function."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(tf.ones([3, 2]), name="kernel")

    @tf.function(input_signature=[tf.TensorSpec([None, 3])])
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return tf.matmul(self.norm(x), self.kernel)

    @tf.function
    def norm(self, x: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, [0])
        return tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("debug") / "saved"
    net = Net()
    options = tf.saved_model.SaveOptions(save_debug_info=True)
    tf.saved_model.save(net, str(folder), net.__call__.get_concrete_function(), options)
    return folder


def message(folder: Path) -> str:
    (fault,) = audit_file(folder).faults
    assert fault.rule == "BN201"
    return fault.message


def built() -> str:
    here, now = Path(__file__), Path.cwd()
    near = here.relative_to(now) if now in here.parents else here
    lines = here.read_text().splitlines()
    number = next(k for k, line in enumerate(lines, 1) if "return tf.nn.batch_norm" in line)
    return f"(layer built at {near}:{number})"


def test_a_saved_model_with_debug_information(saved: Path) -> None:
    assert message(saved).endswith(built())


def test_the_form_of_earlier_versions(saved: Path, tmp_path: Path) -> None:
    """Those wrote each operation's frames in full and knew no numbers."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    info = _info(saved)
    earlier = graph_debug_info_pb2.GraphDebugInfo(files=info.files)
    for key, number in info.name_to_trace_id.items():
        frames = [info.frames_by_id[k] for k in info.traces_by_id[number].frame_id]
        earlier.traces[key].file_line_cols.extend(frames)
    (tmp_path / DEBUG).write_bytes(earlier.SerializeToString())
    assert message(tmp_path).endswith(built())


def _info(folder: Path) -> Any:
    return graph_debug_info_pb2.GraphDebugInfo.FromString((folder / DEBUG).read_bytes())


def _without_files(data: bytes) -> bytes:
    info = graph_debug_info_pb2.GraphDebugInfo.FromString(data)
    del info.files[:]
    return info.SerializeToString()


def _without_frames(data: bytes) -> bytes:
    info = graph_debug_info_pb2.GraphDebugInfo.FromString(data)
    info.frames_by_id.clear()
    return info.SerializeToString()


@pytest.mark.parametrize(
    "damage", [lambda d: d[: len(d) // 2], lambda d: b"", _without_files, _without_frames]
)
def test_damaged_debug_information_is_no_error(saved: Path, tmp_path: Path, damage: Any) -> None:
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    (tmp_path / DEBUG).write_bytes(damage((saved / DEBUG).read_bytes()))
    assert "built at" not in message(tmp_path)
