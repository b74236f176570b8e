"""Which ops a training step spends its time in: a trace, summarised.

    python benchmarks/op_share.py [--data-dir DIR] [--fast] [--precision bfloat16]

Ops are traced one at a time (one inter-op thread), so that their times add up; a free-running
step lets some of them overlap.
"""

from __future__ import annotations

import argparse
import collections

import tensorflow.compat.v1 as tf
from loops import load

from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.batches import Batches
from alexnet_tf1.runs.network import build_network

KINDS = {  # how kernels are called, with and without oneDNN -> what they are
    "BackpropFilter": "convolution, gradient of the kernel",
    "PadWithConv2D": "convolution, gradient of the kernel",
    "BackpropInput": "convolution, gradient of the input",
    "Conv2D": "convolution",
    "MatMul": "matrix product",
    "Adam": "Adam",
    "LRN": "local response normalisation",
    "MaxPool": "max pooling",
    "BatchNorm": "batch normalisation",
    "Relu": "ReLU",
    "BiasAdd": "bias",
    "Cast": "cast",
    "Transpose": "transpose",
}


def main() -> None:
    """Traces ten steps and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", help="folder of CIFAR-10 (default: the embedded set)")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch-size", type=int, default=20)
    options = parser.parse_args()
    tf.disable_eager_execution()
    # The step as a feed and a fetch, with the ops of --fast if asked for: a trace sees them best.
    config = TrainConfig(fast=options.fast, precision=options.precision)
    net = build_network(config)
    batches = Batches(load(options.data_dir).train, 0)
    session = tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1))
    session.run(tf.global_variables_initializer())

    def step(**kwargs: object) -> None:
        images, labels = batches.next_batch(options.batch_size)
        feed = {net.images: images, net.labels: labels, net.is_training: True}
        session.run([net.loss, net.train_op], feed, **kwargs)

    for _ in range(20):
        step()
    spent: collections.Counter[str] = collections.Counter()
    for _ in range(10):
        metadata = tf.RunMetadata()
        step(options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=metadata)
        for device in metadata.step_stats.dev_stats:
            for node in device.node_stats:
                op = node.timeline_label.split(" = ")[-1].split("(")[0] or node.node_name
                kind = next((text for part, text in KINDS.items() if part in op), "all else")
                spent[kind] += node.op_end_rel_micros - node.op_start_rel_micros
    total = sum(spent.values())
    print("| op | ms/step | share |\n|---|---|---|")
    for kind, micros in spent.most_common():
        print(f"| {kind} | {micros / 1e4:.2f} | {100 * micros / total:.0f}% |")
    print(f"| all | {total / 1e4:.2f} | 100% |")


if __name__ == "__main__":
    main()
