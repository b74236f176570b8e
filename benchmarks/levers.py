"""What a lever that the recipes have, or have not, gives: one run, its accuracy and its time.

    python benchmarks/levers.py [LEVER=VALUE ...] -- --recipe best --data-dir DIR [more of train's]

A setting of a recipe is a lever by itself: give it after `--`. The others are changes of the
program that no option makes, made here for the one run:

    iterations=N    of Muon's orthogonalisation (3)
    muon_decay=X    of Muon's kernels: each step first takes away X times rate times kernel (0)
    adam_decay=X    the same of the kernels that Adam trains (0)
    small_rate=X    factor of Adam's rate for variables of one dimension: gamma, beta, bias (1)
    dense_rate=X    the same for the dense layers' kernels (1)
    momentum=X      of Muon (0.9)
    beta1=X         of Adam (0.9), how much of the old mean of gradients is kept
    beta2=X         of Adam (0.999), the same of their squares
    passing=0       of prepared kernels conv1's alone (1)
    dropout=X       part of the dense layers' outputs that is dropped in training (0)
    cutout=N        side of the grey square in each training image, pixels (0)
    compiled=1      XLA makes one program of a step (0)

Those of Muon need `--optimizer muon`, cutout `--flip` or `--shift`, compiled `--fast`, as the
recipes have them: without, they change nothing.

Prints one line of JSON: what was given, the accuracy of the last five training batches that were
logged, that of all test images in inference (%), the same with mirror images (`evaluate --flip`),
and the seconds from the first step to the last test.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1 import layers
from alexnet_tf1.cli import main as cli
from alexnet_tf1.fast import train as fast
from alexnet_tf1.gap.both_modes import evaluate_run
from alexnet_tf1.recipes import augment, kernels, optimizer


def muon_decay(value: float) -> None:
    before_update(optimizer.Muon, lambda self, kernel: value * self._rate_tensor * kernel)


def adam_decay(value: float) -> None:
    def shrunk(self: Any, variable: Any) -> Any:
        return value * self._lr_t * variable if variable.shape.rank > 1 else None

    before_update(tf.train.AdamOptimizer, shrunk)


def before_update(kind: Any, taken: Callable[[Any, Any], Any]) -> None:
    """Has an optimizer take something from each variable before it updates it."""
    update = kind._resource_apply_dense

    def decayed(self: Any, gradient: Any, variable: Any) -> Any:
        less = taken(self, variable)
        with tf.control_dependencies([] if less is None else [tf.assign_sub(variable, less)]):
            return update(self, gradient, variable)

    kind._resource_apply_dense = decayed


def rate_of_rank(rank: int, value: float) -> None:
    """Multiplies Adam's rate for the variables of so many dimensions."""
    update = tf.train.AdamOptimizer._resource_apply_dense

    def scaled(self: Any, gradient: Any, variable: Any) -> Any:
        rate = self._lr_t
        self._lr_t = rate * value if variable.shape.rank == rank else rate
        updated = update(self, gradient, variable)
        self._lr_t = rate
        return updated

    tf.train.AdamOptimizer._resource_apply_dense = scaled


def passing(value: float) -> None:
    if not value:
        kernels.passing_on = lambda kernel: kernel


def give_adam(**given: float) -> None:
    """Has each Adam made with an argument more."""
    tf.train.AdamOptimizer.__init__ = functools.partialmethod(
        tf.train.AdamOptimizer.__init__, **given
    )


def dropout(value: float) -> None:
    normal = layers.batch_normal

    def dropped(inputs: Any, is_training: Any, **more: Any) -> Any:
        rate = tf.where(is_training, value, 0.0)
        return tf.nn.dropout(normal(inputs, is_training, **more), rate=rate)

    layers.batch_normal = dropped


def cutout(value: float) -> None:
    side, apply = int(value), augment.Augmentation.apply

    def cut(self: Any, images: Any, rows: Any, epoch: int, place: int) -> Any:
        images = apply(self, images, rows, epoch, place)
        corners = np.random.default_rng([self._seed, 3, epoch, place]).integers(
            0, augment.SIDE - side + 1, (len(images), 2)
        )
        planes = images.reshape(-1, 3, augment.SIDE, augment.SIDE)
        for image, (y, x) in zip(planes, corners, strict=True):
            image[:, y : y + side, x : x + side] = 127
        return images

    augment.Augmentation.apply = cut


def compiled(value: float) -> None:
    fast.build_loop = functools.partial(fast.build_loop, compiled=bool(value))


LEVERS: dict[str, Callable[[float], None]] = {
    "iterations": lambda value: setattr(optimizer, "ITERATIONS", int(value)),
    "muon_decay": muon_decay,
    "adam_decay": adam_decay,
    "small_rate": functools.partial(rate_of_rank, 1),
    "dense_rate": functools.partial(rate_of_rank, 2),
    "momentum": lambda value: setattr(optimizer.Muon, "MOMENTUM", value),
    "beta1": lambda value: give_adam(beta1=value),
    "beta2": lambda value: give_adam(beta2=value),
    "passing": passing,
    "dropout": dropout,
    "cutout": cutout,
    "compiled": compiled,
}


def main() -> None:
    """Pulls the levers, trains, prints the line."""
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given = dict(word.split("=") for word in sys.argv[1:split])
    typed = sys.argv[split + 1 :]
    if unknown := given.keys() - LEVERS.keys():
        sys.exit(f"error: {', '.join(unknown)} is not one of {', '.join(LEVERS)}")
    for name, value in given.items():
        LEVERS[name](float(value))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        if status := cli.main(["train", "--run-dir", str(folder), *typed]):
            sys.exit(status)
        result = json.loads((folder / "result.json").read_text())
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        mirrored = evaluate_run(str(folder), flip=True)["flip_accuracy_full"]
    accuracies = [line["accuracy"] for line in map(json.loads, lines) if "loss" in line]
    found = {
        "train": 100 * float(np.mean(accuracies[-5:])),
        "test": 100 * result["test_accuracy_full"],
        "mirrored": 100 * mirrored,
        "seconds": result["wall_s"],
    }
    rounded = {name: round(value, 2) for name, value in found.items()}
    print(json.dumps({**given, "typed": typed, **rounded}))


if __name__ == "__main__":
    main()
