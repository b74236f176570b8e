"""How long a training step takes, against the original program's loop.

    python benchmarks/step_time.py                 # embedded data; a table and step_time.json
    python benchmarks/step_time.py --data-dir DIR  # CIFAR-10

Each loop lives in a process of its own and runs when it is its turn: a block of steps of one,
then of the next, round after round, so that a machine whose speed drifts favours none. The
figure to quote is the median of the ratios of neighbouring blocks. The reference is the same
graph through the real tf.layers (tf_keras), fed float64 from a float64 data set, as the original.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LOOPS = ("reference", "default")


def worker(loop: str, data_dir: str | None, batch_size: int) -> None:
    """Runs blocks of steps on request: a number of steps a line in, seconds and memory out."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed must not look like a reply
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    step = STEPS[loop](load(data_dir), batch_size)
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            step()
        elapsed = time.perf_counter() - started
        from alexnet_tf1.machine import peak_rss_mb

        print(json.dumps({"seconds": elapsed, "peak_rss_mb": peak_rss_mb()}), file=replies)
        replies.flush()


def load(data_dir: str | None) -> Any:
    from alexnet_tf1 import dataset

    name = "cifar10" if data_dir else "synthetic"
    return dataset.load(name, Path(data_dir) if data_dir else None, announce=lambda text: None)


def reference_step(data: Any, batch_size: int) -> Any:
    """The original's loop: float64 data, float64 feeds, the real tf.layers."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    import numpy as np
    import tensorflow.compat.v1 as tf
    from oracle import reference_alexnet

    images, labels = data.train.images / 127.5 - 1, data.train.labels
    order = np.random.permutation(len(labels))
    images, labels, at = images[order], labels[order], 0
    net = reference_alexnet()
    session = tf.Session()
    session.run(tf.global_variables_initializer())

    def step() -> None:
        nonlocal at, images, labels
        if at + batch_size > len(labels):
            order = np.random.permutation(len(labels))
            images, labels, at = images[order], labels[order], 0
        batch = slice(at, at + batch_size)
        feed = {net["images"]: images[batch], net["labels"]: labels[batch]}
        fetches = [net["loss"], net["accuracy"], net["train_op"]]
        session.run(fetches, {**feed, net["is_training"]: True})
        at += batch_size

    return step


def default_step(data: Any, batch_size: int) -> Any:
    """The loop of alexnet_tf1.train, without its log."""
    import tensorflow.compat.v1 as tf

    from alexnet_tf1 import build_alexnet
    from alexnet_tf1.batches import Batches
    from alexnet_tf1.train import session_config

    batches = Batches(data.train, seed=0)
    net = build_alexnet()
    session = tf.Session(config=session_config())
    session.run(tf.global_variables_initializer())
    tf.get_default_graph().finalize()

    def step() -> None:
        images, labels = batches.next_batch(batch_size)
        feed = {net.images: images, net.labels: labels, net.is_training: True}
        session.run([net.loss, net.accuracy, net.train_op], feed)

    return step


STEPS = {"reference": reference_step, "default": default_step}


def measure(options: argparse.Namespace, log: Any) -> dict[str, Any]:
    workers = {}
    for loop in LOOPS:
        command = [sys.executable, __file__, "--worker", loop, "--batch-size"]
        command += [str(options.batch_size)]
        command += ["--data-dir", options.data_dir] if options.data_dir else []
        workers[loop] = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def block(loop: str, steps: int) -> dict[str, float]:
        process = workers[loop]
        print(steps, file=process.stdin, flush=True)
        reply = process.stdout.readline()
        if not reply:
            log.seek(0)
            sys.exit(f"the {loop} loop ended early:\n{log.read()}")
        return json.loads(reply)

    for loop in LOOPS:
        block(loop, options.steps)  # the first steps allocate and are not counted
    rounds = []
    for number in range(options.rounds):
        order = LOOPS if number % 2 == 0 else LOOPS[::-1]
        found = {loop: block(loop, options.steps) for loop in order}
        rounds.append({loop: found[loop] for loop in LOOPS})
        line = "  ".join(
            f"{loop} {1e3 * found[loop]['seconds'] / options.steps:.1f} ms" for loop in LOOPS
        )
        print(f"round {number + 1}: {line}", file=sys.stderr)
    for process in workers.values():
        process.stdin.close()
        process.wait()
    return summarise(rounds, options)


def summarise(rounds: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    rows = []
    for loop in LOOPS:
        times = [1e3 * r[loop]["seconds"] / options.steps for r in rounds]
        ratios = [r[loop]["seconds"] / r["reference"]["seconds"] for r in rounds]
        median = statistics.median(times)
        rows.append(
            {
                "loop": loop,
                "ms_per_step": median,
                "images_per_s": 1e3 * options.batch_size / median,
                "ratio": statistics.median(ratios),
                "ratio_min": min(ratios),
                "ratio_max": max(ratios),
                "peak_rss_mb": rounds[-1][loop]["peak_rss_mb"],
            }
        )
    from alexnet_tf1 import machine

    return {
        "data": "cifar10" if options.data_dir else "synthetic",
        "batch_size": options.batch_size,
        "steps_a_block": options.steps,
        "rounds": options.rounds,
        "device": machine.device(),
        "versions": machine.versions(),
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", help="folder of CIFAR-10 (default: the embedded set)")
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--steps", type=int, default=50, help="steps a block")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, default=Path("step_time.json"))
    parser.add_argument("--worker", choices=LOOPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.data_dir, options.batch_size)
        return
    with tempfile.TemporaryFile("w+") as log:
        found = measure(options, log)
    print("| loop | ms/step | images/s | of the reference (min to max) | peak memory |")
    print("|---|---|---|---|---|")
    for row in found["rows"]:
        print(
            f"| {row['loop']} | {row['ms_per_step']:.1f} | {row['images_per_s']:.0f} "
            f"| {row['ratio']:.3f} ({row['ratio_min']:.3f} to {row['ratio_max']:.3f}) "
            f"| {row['peak_rss_mb']:.0f} MB |"
        )
    options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
