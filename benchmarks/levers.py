"""What a lever that the recipes have, or have not, gives: one run, its accuracy and its time.

    python benchmarks/levers.py [LEVER=VALUE ...] -- --recipe best --data-dir DIR [more of train's]

A setting of a recipe is a lever by itself: give it after `--`. The others are changes of the
program that no option makes, made here for the one run:

    iterations=N    of Muon's orthogonalisation (3)
    momentum=X      of Muon (0.9)
    muon_decay=X    decoupled weight decay of Muon's kernels, a step: X times the rate (0)
    adam_decay=X    the same of Adam's kernels (0)
    small_rate=X    factor of Adam's rate for variables of one dimension: gamma, beta, bias (1)
    cut=N           pixels of a grey square put somewhere on each image (0)
    passing=0       prepared kernels: conv1's alone (1)

Prints one line of JSON: what was given, the accuracy of the last training batches and that of all
test images in inference (%), and the seconds of the training and of the whole process.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1.cli import main as cli
from alexnet_tf1.recipes import augment, kernels, optimizer

STARTED = time.perf_counter()


def iterations(value: float) -> None:
    optimizer.ITERATIONS = int(value)


def momentum(value: float) -> None:
    optimizer.Muon.MOMENTUM = value


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


def small_rate(value: float) -> None:
    update = tf.train.AdamOptimizer._resource_apply_dense

    def scaled(self: Any, gradient: Any, variable: Any) -> Any:
        rate = self._lr_t
        self._lr_t = rate * value if variable.shape.rank == 1 else rate
        updated = update(self, gradient, variable)
        self._lr_t = rate
        return updated

    tf.train.AdamOptimizer._resource_apply_dense = scaled


def cut(value: float) -> None:
    side, apply = int(value), augment.Augmentation.apply

    def with_square(self: Any, images: Any, rows: Any, epoch: int, place: int) -> Any:
        planes = apply(self, images, rows, epoch, place).reshape(-1, 3, augment.SIDE, augment.SIDE)
        random = np.random.default_rng([self._seed, 3, epoch, place])
        corners = random.integers(0, augment.SIDE + 1 - side, (len(planes), 2))
        for image, (y, x) in zip(planes, corners, strict=True):
            image[:, y : y + side, x : x + side] = 128
        return planes.reshape(len(planes), -1)

    augment.Augmentation.apply = with_square


def passing(value: float) -> None:
    if not value:
        kernels.passing_on = lambda kernel: kernel


LEVERS = {
    lever.__name__: lever
    for lever in (iterations, momentum, muon_decay, adam_decay, small_rate, cut, passing)
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
    accuracies = [line["accuracy"] for line in map(json.loads, lines) if "loss" in line]
    found = {
        "train": 100 * float(np.mean(accuracies[-5:])),
        "test": 100 * result["test_accuracy_full"],
        "training_s": result["wall_s"],
        "process_s": time.perf_counter() - STARTED,
    }
    rounded = {name: round(value, 2) for name, value in found.items()}
    print(json.dumps({**given, "typed": typed, **rounded}))


if __name__ == "__main__":
    main()
