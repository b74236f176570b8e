"""The loops that step_time.py times, each a function `make(data, batch_size)`.

It returns `run(steps)`, which trains so many steps. A loop lives in a process of its own:
`reference` needs TF_USE_LEGACY_KERAS=1, and the peers (peers.py) are frameworks of their own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from peers import PEERS, Run, check_parameters

HERE = Path(__file__).resolve().parent

# Multiply-adds of one image forward, layer by layer (3 x 3 x in x out x pixels; in x out).
MULTIPLY_ADDS = {
    "conv1": 27 * 48 * 32 * 32,
    "conv2": 9 * 48 * 96 * 16 * 16,
    "conv3": 9 * 96 * 192 * 8 * 8,
    "conv4": 9 * 192 * 192 * 8 * 8,
    "conv5": 9 * 192 * 96 * 8 * 8,
    "dense": 1536 * 1024,
    "dense_1": 1024 * 1024,
    "dense_2": 1024 * 10,
}


def flops(batch_size: int) -> float:
    """Floating-point operations of a training step.

    Forward, and twice that backward (gradients of the inputs and of the kernels), less the
    gradient of the image, which nobody needs.
    """
    return 2.0 * batch_size * (3 * sum(MULTIPLY_ADDS.values()) - MULTIPLY_ADDS["conv1"])


def load(data_dir: str | None) -> Any:
    from alexnet_tf1.data.load import load_dataset

    name = "cifar10" if data_dir else "synthetic"
    return load_dataset(name, Path(data_dir) if data_dir else None, announce=lambda text: None)


def reference(data: Any, batch_size: int) -> Run:
    """The original's loop: float64 data, float64 feeds, the real tf.layers."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    import numpy as np
    import tensorflow.compat.v1 as tf
    from support.oracle import reference_alexnet

    tf.disable_eager_execution()
    images, labels = data.train.images / 127.5 - 1, data.train.labels
    order = np.random.permutation(len(labels))
    images, labels, at = images[order], labels[order], 0
    net = reference_alexnet()
    session = tf.Session()
    session.run(tf.global_variables_initializer())

    def run(steps: int) -> None:
        nonlocal at, images, labels
        for _ in range(steps):
            if at + batch_size > len(labels):
                order = np.random.permutation(len(labels))
                images, labels, at = images[order], labels[order], 0
            batch = slice(at, at + batch_size)
            feed = {net["images"]: images[batch], net["labels"]: labels[batch]}
            fetches = [net["loss"], net["accuracy"], net["train_op"]]
            session.run(fetches, {**feed, net["is_training"]: True})
            at += batch_size

    return run


def ours(compiled: bool = False, **settings: Any) -> Callable[[Any, int], Run]:
    """The loop of alexnet_tf1.train or of alexnet_tf1.fast.train, without hooks."""

    def make(data: Any, batch_size: int) -> Run:
        import numpy as np
        import tensorflow.compat.v1 as tf

        from alexnet_tf1.alexnet import build_for_testing
        from alexnet_tf1.config import TrainConfig
        from alexnet_tf1.data.batches import Batches
        from alexnet_tf1.fast.kernels import ops_for
        from alexnet_tf1.fast.train import build_loop, steps_for_a_call
        from alexnet_tf1.runs.network import build_network
        from alexnet_tf1.session import open_session

        tf.disable_eager_execution()
        tf.set_random_seed(0)
        config = TrainConfig(batch_size=batch_size, **settings)
        if config.fast:
            build_for_testing(ops=ops_for(config))
            hooks = SimpleNamespace(optimizer=None, ops=ops_for(config))
            loop = build_loop(config, hooks, compiled=compiled)
        else:
            net = build_network(config)
        initialise = tf.global_variables_initializer()
        check_parameters(variable.shape.as_list() for variable in tf.trainable_variables())
        tf.get_default_graph().finalize()
        session = open_session(fast=config.fast)
        session.run(initialise)
        batches = Batches(data.train, seed=0)

        def one_by_one(count: int) -> None:
            for _ in range(count):
                images, labels = batches.next_batch(batch_size)
                feed = {net.images: images, net.labels: labels, net.is_training: True}
                session.run([net.loss, net.accuracy, net.train_op], feed)

        most = 1

        def in_calls(count: int) -> None:
            nonlocal most
            while count:
                steps = min(count, most)
                started = time.perf_counter()
                taken = [batches.next_pixels(batch_size) for _ in range(steps)]
                pixels, labels = (np.stack(column) for column in zip(*taken, strict=True))
                feed = {loop.pixels: pixels, loop.labels: labels}
                session.run([loop.losses, loop.accuracies], feed)
                most = steps_for_a_call(most, (time.perf_counter() - started) / steps)
                count -= steps

        return in_calls if config.fast else one_by_one

    return make


LOOPS: dict[str, Callable[[Any, int], Run]] = {
    "reference": reference,
    "default": ours(),
    "fast": ours(fast=True),
    "fast, bfloat16": ours(fast=True, precision="bfloat16"),
    "default, bfloat16": ours(precision="bfloat16"),
    "fast, XLA": ours(compiled=True, fast=True),
    "fast, bfloat16, XLA": ours(compiled=True, fast=True, precision="bfloat16"),
    **PEERS,
}


def matmul_rate(dtype: str) -> Run:
    """The machine's own matrix-product rate: `run(n)` multiplies 1024 x 1024 matrices n times."""
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    a = tf.get_variable("a", initializer=tf.random.normal([1024, 1024], seed=0))
    b = tf.cast(a, dtype)
    session = tf.Session()
    session.run(a.initializer)
    product = session.make_callable(tf.matmul(b, b).op)

    def run(times: int) -> None:
        for _ in range(times):
            product()

    return run
