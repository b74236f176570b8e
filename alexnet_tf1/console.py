"""What `train` prints before its first step and after its last."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from alexnet_tf1 import machine, runs
from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.batchnorm.audit import audit_graph
from alexnet_tf1.dataset import Dataset


def introduce(run: runs.Run, data: Dataset, net: AlexNet) -> None:
    """One line each, before the first step: data set, device, parameters, where it goes."""
    origin = "" if data.verified or data.name == "synthetic" else ", not the published files"
    print(
        f"data set: {data.name}{origin}, {len(data.train.labels):,} training and "
        f"{len(data.test.labels):,} test images"
    )
    print(f"device: {machine.device()}")
    variables = net.logits.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
    parameters = sum(variable.shape.num_elements() for variable in variables)
    print(f"parameters: {parameters:,} trainable in {len(variables)} variables")
    print(f"run folder: {run.folder}")
    _audit(net)


# What the audit of the run's own graph can find, and which option asks for it.
_ASKED_FOR = {
    "BN101": "train_op never updates the moving averages of {}: --update-ops none asks for that",
    "BN201": "{} normalise with the test batch in inference: the original's --fc-batch-norm "
    "batch asks for that, ema mends it",
}


def _audit(net: AlexNet) -> None:
    """Says in a line each what is wrong with the graph that is about to be trained."""
    report = audit_graph(
        net.logits.graph, [net.train_op], logits=net.logits, is_training=net.is_training
    )
    for rule, text in _ASKED_FOR.items():
        layers = [fault.layer for fault in report.faults if fault.rule == rule]
        if layers:
            print(f"audit, {rule}: {text.format(' and '.join(layers))}")


def conclude(run: runs.Run, result: dict[str, Any]) -> None:
    """What came out, after the last step."""
    if result["stopped_by"] is not None:
        print(f"Stopped after step {result['steps']}; saved in {run.folder}")
        return
    data = result["dataset"]
    print(
        f"test accuracy on all {data['test_images']:,} images of {data['name']}: "
        f"{100 * result['test_accuracy_full']:.2f}% in inference, "
        f"{100 * result['batch_statistics_accuracy_full']:.2f}% with batch statistics "
        f"(gap {result['gap_points']:+.2f} points)"
    )
    print(f"{result['steps']:,} steps in {result['wall_s']:.0f} s; results in {run.folder}")


def of(data: Dataset) -> str:
    """Names a stand-in in every line that quotes an accuracy; the original's lines are bare."""
    return "" if data.name == "cifar10" else f" ({data.name})"
