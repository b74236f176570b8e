"""A run's TensorBoard event file: every tag that `tensorboard --logdir runs` shows.

Nothing here adds an op to the graph: the graph in the event file and in the checkpoints is the
one that is trained.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow.compat.v1 as tf

from alexnet_tf1.config import TrainConfig, option
from alexnet_tf1.supervisor.periodic_test import Tested

TRAINED = ("loss", "accuracy", "images_per_s")  # keys of metrics.jsonl
BINS = 30  # as many as TensorBoard draws

# What a tag means, as TensorBoard shows it at its card; the name of a layer is left out.
MEANING = {
    "config": "What the run was asked to do, and where it started or went on.",
    "train/loss": "Cross-entropy of one batch before its update, in nats.",
    "train/accuracy": "Fraction right in one batch before its update.",
    "train/images_per_s": "Training images a second since the last line, tests and saves included.",
    "test/accuracy_inference": "Fraction right of the first test images, in inference.",
    "test/accuracy_batch_statistics": "Fraction right of the same images in the same batches when "
    "every layer normalises with the batch. Inference far below it: the gap.",
    "distance/mean": "Median over channels of |moving mean - batch mean|, in standard deviations; "
    "batch statistics averaged over the test's batches. 0: they agree.",
    "distance/variance": "ln of the median over channels of moving variance / batch variance or "
    "its inverse; batch statistics averaged over the test's batches. 0: they agree.",
    "statistics/moving_mean": "Of all channels, before the test.",
    "statistics/moving_variance": "Of all channels, before the test.",
}


class Events:
    """Writes the event file of one process; a context manager that closes it."""

    def __init__(self, folder: Path, graph: Any) -> None:
        """Opens the file in a run's folder and writes the graph to it."""
        self._writer = tf.summary.FileWriter(str(folder), graph)

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *exc: object) -> None:
        self._writer.close()

    def begin(self, config: TrainConfig, step: int, records: list[dict[str, Any]]) -> None:
        """Says where training starts and with which settings.

        TensorBoard then forgets what a killed process logged at this step or later. What the
        checkpoint's own step had logged before its checkpoint is still true: it is said again.

        Args:
          config: the settings.
          step: trained before.
          records: of metrics.jsonl, as far as they hold.
        """
        self._writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), step)
        summary = tf.Summary()
        value = summary.value.add(tag="config")
        _describe(value, "text", "config")
        value.tensor.CopyFrom(tf.make_tensor_proto(table(config)))
        self._writer.add_summary(summary, step)
        for record in records:
            known = all(isinstance(record.get(name), (int, float)) for name in TRAINED)
            if record["step"] == step and known:
                self.trained(step, record)

    def trained(self, step: int, record: dict[str, float]) -> None:
        """Writes the values of `TRAINED` in a record of metrics.jsonl; units as in `MEANING`."""
        summary = tf.Summary()
        for name in TRAINED:
            _scalar(summary, f"train/{name}", record[name])
        self._writer.add_summary(summary, step)

    def tested(self, step: int, found: Tested) -> None:
        """Writes what a test found."""
        summary = tf.Summary()
        _scalar(summary, "test/accuracy_inference", found.accuracy)
        _scalar(summary, "test/accuracy_batch_statistics", found.batch_statistics_accuracy)
        for layer in found.layers:
            with np.errstate(all="ignore"):  # a run about to diverge
                log_ratio = float(np.log(layer.distance.variance))
            for name, distance in ("mean", layer.distance.mean), ("variance", log_ratio):
                _scalar(summary, f"distance/{layer.name}/{name}", distance, f"distance/{name}")
            for name in ("moving_mean", "moving_variance"):
                value = summary.value.add(tag=f"statistics/{layer.name}/{name}")
                value.histo.CopyFrom(histogram(getattr(layer, name)))
                _describe(value, "histograms", f"statistics/{name}")
        self._writer.add_summary(summary, step)
        self._writer.flush()  # tests are rare: let who watches see them


def table(config: TrainConfig) -> str:
    """The settings as a markdown table: an option and its value a row."""
    rows = ["| option | value |", "|---|---|"]
    for name, value in dataclasses.asdict(config).items():
        text = "" if value is None else "`" + str(value).replace("|", "\\|") + "`"
        rows.append(f"| {option(name)} | {text} |")
    return "\n".join(rows)


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


# What a plugin shows: DATA_CLASS_SCALAR and _TENSOR of TensorFlow's summary.proto. Where it is not
# set, TensorBoard's default reader drops the description.
_DATA_CLASS = {"scalars": 1, "histograms": 2, "text": 2}


def _describe(value: Any, plugin: str, meaning: str) -> None:
    value.metadata.plugin_data.plugin_name = plugin
    value.metadata.data_class = _DATA_CLASS[plugin]
    value.metadata.summary_description = MEANING[meaning]
