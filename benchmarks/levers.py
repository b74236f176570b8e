"""What a lever that the recipes have, or have not, gives: one run, its accuracy and its time.

    python benchmarks/levers.py [LEVER=VALUE ...] -- --recipe best --data-dir DIR [more of train's]

A setting of a recipe is a lever by itself: give it after `--`. The others are changes of the
program that no option makes, made here for the one run:

    iterations=N    of Muon's orthogonalisation (3)
    muon_decay=X    of Muon's kernels: each step first takes away X times rate times kernel (0)
    adam_decay=X    the same of the kernels that Adam trains (0)
    small_rate=X    factor of Adam's rate for variables of one dimension: gamma, beta, bias (1)
    passing=0       of prepared kernels conv1's alone (1)

Prints one line of JSON: what was given, the accuracy of the last five training batches that were
logged and that of all test images in inference (%), and the seconds from the first step to the
last test.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1.cli import main as cli
from alexnet_tf1.recipes import kernels, optimizer


def iterations(value: float) -> None:
    optimizer.ITERATIONS = int(value)


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


def passing(value: float) -> None:
    if not value:
        kernels.passing_on = lambda kernel: kernel


LEVERS = {
    lever.__name__: lever for lever in (iterations, muon_decay, adam_decay, small_rate, passing)
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
        "seconds": result["wall_s"],
    }
    rounded = {name: round(value, 2) for name, value in found.items()}
    print(json.dumps({**given, "typed": typed, **rounded}))


if __name__ == "__main__":
    main()
