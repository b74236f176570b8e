"""What saving costs a run, and what going on with one costs.

    python benchmarks/checkpoint_cost.py [--data-dir DIR] [--fast]

Medians over --rounds of the parts that `train` and `train --resume` are made of.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow.compat.v1 as tf
from loops import load

from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.batches import Batches
from alexnet_tf1.runs import recovery as checkpoints
from alexnet_tf1.runs import resume, saving
from alexnet_tf1.runs.network import build_network
from alexnet_tf1.session import open_session


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", help="folder of CIFAR-10 (default: the embedded set)")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    tf.disable_eager_execution()
    config = TrainConfig(fast=options.fast)
    data = load(options.data_dir)
    build_network(config)
    initialise = tf.global_variables_initializer()
    saver = tf.train.Saver(max_to_keep=3, save_relative_paths=True)
    tf.get_default_graph().finalize()
    batches = Batches(data.train, 0)
    with tempfile.TemporaryDirectory() as name, open_session() as session:
        folder = Path(name)
        session.run(initialise)
        kept: list[str] = []
        steps = itertools.count(1)

        def save() -> None:
            kept[:] = saving.save(
                session, saver, str(folder / f"model.ckpt-{next(steps)}"), kept, 3
            )

        def newest() -> str:
            return str(checkpoints.newest_sound(folder, print))

        parts: dict[str, Callable[[], object]] = {
            "save a checkpoint and flush it": save,
            "save one without": lambda: saver.save(session, str(folder / "model.ckpt-0")),
            "  of which its .meta": lambda: saver.export_meta_graph(str(folder / "x.meta")),
            "find and check the newest checkpoint": newest,
            "restore it": lambda: saver.restore(session, newest()),
            "go to the place in the order, step 10,000": lambda: batches.skip(10_000, 20),
            "compare the images with the run's": lambda: resume.fingerprint(data),
        }
        print("| part | ms |\n|---|---|")
        for part, run in parts.items():
            times = []
            for _ in range(options.rounds):
                started = time.perf_counter()
                run()
                times.append(1e3 * (time.perf_counter() - started))
            print(f"| {part} | {statistics.median(times):.0f} |")


if __name__ == "__main__":
    main()
