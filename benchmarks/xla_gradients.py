"""How far XLA's gradients are off, on whichever device TensorFlow takes.

    python benchmarks/xla_gradients.py --data-dir DIR

The gradients of one batch of 20 at the first weights of seed 0, float32 without TF32, relative to
those of the same step without XLA (norm of the difference over norm). `fused`: with TensorFlow's
fused normalisation; `plain`: with the plain ops that `build_loop(compiled=True)` uses. `mistaken`,
on the CPU and without XLA: with 1 / sqrt(variance + epsilon) where the gradient of the
normalisation expects the variance. On a GPU `fused` of TensorFlow 2.21 is `mistaken`
(docs/performance.md).
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from loops import load

from alexnet_tf1 import alexnet, ops
from alexnet_tf1.data.batches import SCALED, Batches
from alexnet_tf1.fast.kernels import choose
from alexnet_tf1.session import open_session

FAST = choose(fast=True, bfloat16=False, gpu=False)


def mistaken(inputs: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    """`ops.normalise_with_batch` whose gradient mistakes the variance.

    On the CPU, where the op hands the gradient the variance itself.
    """
    fused = {"epsilon": epsilon, "is_training": True}

    @tf.custom_gradient
    def normalise(x: Any, scale: Any, offset: Any) -> Any:
        empty = {"mean": [], "variance": []}
        outputs, mean, variance, *kept = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, **empty, **fused
        )

        def gradient(doutputs: Any, *_: Any) -> Any:
            first, second, third = kept
            reserved = (first, tf.rsqrt(second + epsilon), third)
            spaces = {f"reserve_space_{n}": space for n, space in enumerate(reserved, 1)}
            with tf.device("/CPU:0"):
                found = tf.raw_ops.FusedBatchNormGradV3(
                    y_backprop=doutputs, x=x, scale=scale, **spaces, **fused
                )
            return found[:3]

        return (outputs, mean, variance), gradient

    with tf.device("/CPU:0"):  # tf.custom_gradient takes no variables as arguments
        return normalise(inputs, tf.identity(gamma), tf.identity(beta))


def gradients(normalise: Any, images: Any, labels: Any, *, compiled: bool) -> list[Any]:
    """Builds the gradients of all weights, normalised by a function."""

    def build(images: Any, labels: Any) -> Any:
        with tf.variable_scope(tf.get_variable_scope(), reuse=True):
            network = FAST._replace(normalise_with_batch=normalise)
            logits = alexnet.inference(images, True, "batch", network)
        return tf.gradients(alexnet.cross_entropy(labels, logits), tf.trainable_variables())

    return tf.function(build, jit_compile=compiled, autograph=False)(images, labels)


def main() -> None:
    """Prints a line for each weight."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", help="folder of CIFAR-10 (default: the embedded set)")
    options = parser.parse_args()
    tf.disable_eager_execution()
    tf.set_random_seed(0)
    net = alexnet.build_for_testing(ops=FAST)
    inputs = (net.images, net.labels)
    built = {
        "right": gradients(ops.normalise_with_batch, *inputs, compiled=False),
        "fused": gradients(ops.normalise_with_batch, *inputs, compiled=True),
        "plain": gradients(ops.normalise_with_moments, *inputs, compiled=True),
        "mistaken": gradients(mistaken, *inputs, compiled=False),
    }
    pixels, labels = Batches(load(options.data_dir).train, 0).next_pixels(20)
    with open_session() as session:
        session.run(tf.global_variables_initializer())
        found = session.run(built, {net.images: SCALED[pixels], net.labels: labels})
    right = found.pop("right")
    print(f"{'':30}" + "".join(f"{name:>10}" for name in found))
    for at, weight in enumerate(tf.trainable_variables()):
        norm = np.linalg.norm(right[at])
        if norm < 1e-4:
            continue  # a bias before a normalisation: its gradient is rounding alone
        off = (np.linalg.norm(given[at] - right[at]) / norm for given in found.values())
        print(f"{weight.op.name:30}" + "".join(f"{error:10.4f}" for error in off))


if __name__ == "__main__":
    main()
