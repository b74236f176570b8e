"""A run's TensorBoard event file: every tag that `tensorboard --logdir runs` shows.

Nothing here adds an op to the graph: the graph in the event file and in the checkpoints is the
one that is trained.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow.compat.v1 as tf
from google.protobuf.struct_pb2 import Struct

from alexnet_tf1.config import TrainConfig, option
from alexnet_tf1.reporting.compare import OF_LOGGING
from alexnet_tf1.reporting.event_images import Drawn
from alexnet_tf1.supervisor.periodic_test import Tested

TRAINED = {  # tags, by the keys of metrics.jsonl
    "loss": "loss/train",
    "accuracy": "accuracy/train",
    "images_per_s": "speed/images_per_s",
}
BINS = 30  # as many as TensorBoard draws
SETTINGS = "_hparams_/session_start_info"  # the tag where TensorBoard looks for a run's settings

# What a tag means, as TensorBoard shows it at its card; the name of a layer is left out.
# TensorBoard sorts by name: accuracies and losses come first.
MEANING = {
    "config": "What the run was asked to do, and where it started or went on.",
    "loss/train": "Cross-entropy of one batch before its update, in nats.",
    "accuracy/train": "Fraction right in one batch before its update.",
    "speed/images_per_s": "Training images a second since the last line, tests and saves included.",
    "accuracy/test_inference": "Fraction right of the first test images, in inference.",
    "accuracy/test_batch_statistics": "Fraction right of the same images in the same batches when "
    "every layer normalises with the batch. Inference far below it: the gap.",
    "moving_averages/mean_distance": "Median over channels of |moving mean - batch mean|, in "
    "standard deviations; batch statistics averaged over the test's batches. 0: they agree.",
    "moving_averages/variance_distance": "ln of the median over channels of moving variance / "
    "batch variance or its inverse; batch statistics averaged over the test's batches. 0: they "
    "agree.",
    "moving_averages/mean": "Of all channels, before the test.",
    "moving_averages/variance": "Of all channels, before the test.",
    "tested/confusion_matrix": "All test images in inference, at the end: a row is a true class, a "
    "column what was predicted.",
    "tested/worst": "Misclassified test images whose true class was held least likely, the worst "
    "first: true class > predicted class and its probability.",
    SETTINGS: "The settings of the run.",
}


class Events:
    """Writes the event file of one process; a context manager that closes it.

    TensorFlow writes in a thread, which ends where the disk is full; what is written next raises
    the thread's error then: a RuntimeError or IndexError, of which OSError is made here.
    """

    def __init__(self, folder: Path, graph: Any) -> None:
        """Opens the file in a run's folder and writes the graph to it."""
        self._excepthook = threading.excepthook
        threading.excepthook = self._ended
        with _system_errors():
            self._writer = tf.summary.FileWriter(str(folder), graph)

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            with _system_errors():
                self._writer.close()
        finally:
            threading.excepthook = self._excepthook

    def _ended(self, args: threading.ExceptHookArgs) -> None:
        """Keeps the traceback of TensorFlow's thread off the console: its error comes back."""
        if args.thread is None or args.thread.name != "EventLoggerThread":
            self._excepthook(args)

    def _write(self, summary: Any, step: int) -> None:
        with _system_errors():
            self._writer.add_summary(summary, step)

    def begin(self, config: TrainConfig, step: int, records: list[dict[str, Any]]) -> None:
        """Says where training starts and with which settings.

        TensorBoard then forgets what a killed process logged at this step or later. What the
        checkpoint's own step had logged before its checkpoint is still true: it is said again.

        Args:
          config: the settings.
          step: trained before.
          records: of metrics.jsonl, as far as they hold.
        """
        with _system_errors():
            self._writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), step)
        summary = tf.Summary()
        value = summary.value.add(tag="config")
        _describe(value, "text", "config")
        value.tensor.CopyFrom(tf.make_tensor_proto(table(config)))
        value = summary.value.add(tag=SETTINGS)
        _describe(value, "hparams", SETTINGS)
        value.metadata.plugin_data.content = hparams(config)
        value.tensor.CopyFrom(tf.make_tensor_proto(0.0, shape=[1]))  # what it holds is not read
        self._write(summary, step)
        for record in records:
            known = all(isinstance(record.get(name), (int, float)) for name in TRAINED)
            if record["step"] == step and known:
                self.trained(step, record)

    def trained(self, step: int, record: dict[str, float]) -> None:
        """Writes the values of `TRAINED` in a record of metrics.jsonl; units as in `MEANING`."""
        summary = tf.Summary()
        for name, tag in TRAINED.items():
            _scalar(summary, tag, record[name])
        self._write(summary, step)

    def tested(self, step: int, found: Tested) -> None:
        """Writes what a test found."""
        summary = tf.Summary()
        _scalar(summary, "accuracy/test_inference", found.accuracy)
        _scalar(summary, "accuracy/test_batch_statistics", found.batch_statistics_accuracy)
        for layer in found.layers:
            with np.errstate(all="ignore"):  # a run about to diverge
                log_ratio = float(np.log(layer.distance.variance))
            for name, averages, distance in (
                ("mean", layer.moving_mean, layer.distance.mean),
                ("variance", layer.moving_variance, log_ratio),
            ):
                tag, meaning = f"moving_averages/{layer.name}/{name}", f"moving_averages/{name}"
                _scalar(summary, f"{tag}_distance", distance, f"{meaning}_distance")
                value = summary.value.add(tag=tag)
                value.histo.CopyFrom(histogram(averages))
                _describe(value, "histograms", meaning)
        self._write(summary, step)
        with _system_errors():
            self._writer.flush()  # tests are rare: let who watches see them

    def finished(self, step: int, pictures: dict[str, Drawn]) -> None:
        """Writes pictures of the final test, by name."""
        summary = tf.Summary()
        for name, drawn in pictures.items():
            value = summary.value.add(tag=f"tested/{name}")
            value.image.width, value.image.height = drawn.width, drawn.height
            value.image.encoded_image_string = drawn.png
            _describe(value, "images", value.tag)
        self._write(summary, step)


@contextlib.contextmanager
def _system_errors() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, LookupError, ValueError) as error:
        said = str(error).partition("\n")[0].rpartition("; ")[2]
        raise OSError(errno.EIO, said) from None


def table(config: TrainConfig) -> str:
    """The settings as a markdown table: an option and its value a row."""
    rows = ["| option | value |", "|---|---|"]
    for name, value in dataclasses.asdict(config).items():
        text = "" if value is None else "`" + str(value).replace("|", "\\|") + "`"
        rows.append(f"| {option(name)} | {text} |")
    return "\n".join(rows)


def hparams(config: TrainConfig) -> bytes:
    """Encodes the settings of what is trained for TensorBoard's plugin "hparams".

    TensorBoard need not be installed. The plugin reads an HParamsPluginData, whose field 3 is a
    SessionStartInfo, whose field 1 maps names to google.protobuf.Value, like a Struct's.
    """
    settings = dataclasses.asdict(config)
    start = Struct()
    start.update({name: value for name, value in settings.items() if name not in OF_LOGGING})
    encoded: bytes = start.SerializeToString(deterministic=True)
    length, rest = bytearray(), len(encoded)
    while rest > 127:  # seven bits a byte, the lowest first
        length.append(rest % 128 + 128)
        rest //= 128
    return bytes([3 << 3 | 2, *length, rest]) + encoded


def histogram(values: npt.NDArray[np.float32]) -> Any:
    """Counts values in bins of equal width.

    By numpy: tf.summary.histogram would be part of the graph in every checkpoint, and ends the
    run at the first value that is not a number.

    Args:
      values: float32 [C]; those that are not finite are left out.

    Returns:
      A tf.HistogramProto.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return tf.HistogramProto()
    counts, edges = np.histogram(finite, BINS)
    return tf.HistogramProto(
        min=finite.min(),
        max=finite.max(),
        num=finite.size,
        sum=finite.sum(),
        sum_squares=np.square(finite).sum(),
        bucket_limit=edges[1:],
        bucket=counts,
    )


def _scalar(summary: Any, tag: str, number: float, meaning: str | None = None) -> None:
    _describe(summary.value.add(tag=tag, simple_value=number), "scalars", meaning or tag)


# What a plugin shows: DATA_CLASS_SCALAR, _TENSOR and _BLOB_SEQUENCE of TensorFlow's summary.proto.
# Where it is not set, TensorBoard's default reader drops the description.
_DATA_CLASS = {"scalars": 1, "histograms": 2, "text": 2, "hparams": 2, "images": 3}


def _describe(value: Any, plugin: str, meaning: str) -> None:
    value.metadata.plugin_data.plugin_name = plugin
    value.metadata.data_class = _DATA_CLASS[plugin]
    value.metadata.summary_description = MEANING[meaning]
