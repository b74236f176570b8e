"""What training with several workers costs and how close it comes, on this machine.

    python benchmarks/allreduce.py [--data-dir DIR]     # tables and allreduce.json

Exactness: 1, 2 and 4 workers from the same seed on the same batches, compared by their losses and
checkpoints. For scale: 1 worker with --fast, whose ops round differently, and 2 workers that each
normalise by their own half.
All-reduce: the fused vector of a step and the largest of a normalisation, alone, over gRPC on
loopback, 2 and 4 workers.
Overhead: one worker with 2 threads against two with 1 each, taking turns.
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

import numpy as np

from alexnet_tf1.checkpoint.reader import Checkpoint
from alexnet_tf1.distributed.launch import environment_of, free_addresses

VECTORS = {"gradients, loss, hits, signals": 3_345_162 + 4, "nothing": 1}
ONE_NORM = 2 * 1024  # mean and mean square of a fully connected layer, float64
VARIANTS: dict[str, tuple[int, list[str]]] = {
    "1 worker": (1, []),
    "2 workers": (2, []),
    "4 workers": (4, []),
    "1 worker, --devices 2": (1, ["--devices", "2"]),
    "1 worker, --fast": (1, ["--fast"]),
    "2 workers, --local-batch-norm": (2, ["--local-batch-norm"]),
}


def cluster(arguments: list[str], workers: int, threads: int) -> list[subprocess.Popen[str]]:
    """Starts a Python command as each worker of a cluster."""
    addresses = free_addresses(workers)
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={
                **environment_of(task, addresses),
                "TF_NUM_INTRAOP_THREADS": str(threads),
                "CUDA_VISIBLE_DEVICES": "",
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        for task in range(workers)
    ]


def wait(processes: list[subprocess.Popen[str]]) -> str:
    """What the first one printed."""
    printed = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"a worker failed: {printed}")
    return printed[0]


def train(workers: int, threads: int, folder: Path, options: list[str]) -> None:
    """Trains with `alexnet-tf1 train`."""
    arguments = ["-m", "alexnet_tf1", "train", *options, "--run-dir", str(folder)]
    wait(cluster(arguments, workers, threads))


def records(folder: Path, key: str) -> list[float]:
    """One value of every [Train] line."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record[key] for record in map(json.loads, lines) if key in record]


def exactness(
    place: Path, data: list[str], steps: int, variants: list[str]
) -> list[dict[str, Any]]:
    """Largest differences of these variants from one worker."""
    # At the original's rate two runs part within steps, whatever differs (docs/performance.md).
    every = [
        "--learning-rate",
        "1e-5",
        "--log-every",
        "1",
        "--test-every",
        str(steps),
        "--checkpoint-every",
        str(steps),
    ]
    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    rows = []
    for name in dict.fromkeys(["1 worker", *variants]):
        workers, more = VARIANTS[name]
        folder = place / name.replace(" ", "_")
        train(workers, 1, folder, [*data, *every, *more, "--steps", str(steps)])
        saved = Checkpoint(str(folder / f"checkpoints/model.ckpt-{steps}"))
        values = {n: saved.read(n) for n in saved.variables}
        found[name] = np.array(records(folder, "loss")), values
        losses = np.abs(found[name][0] - found["1 worker"][0])
        off = {n: np.abs(v - found["1 worker"][1][n]).max() for n, v in values.items()}
        moving = ("moving_", "ExponentialMovingAverage")
        rows.append(
            {
                "variant": name,
                "loss, step 1": float(losses[0]),
                "loss, steps 2 to 10": float(losses[1:10].max()),
                f"loss, to step {steps}": float(losses.max()),
                "weights": max(float(v) for n, v in off.items() if n.endswith("kernel")),
                "moving averages": max(
                    float(v) for n, v in off.items() if any(part in n for part in moving)
                ),
            }
        )
        print(rows[-1], file=sys.stderr)
    return rows


def reduce_alone(task: int, addresses: list[str]) -> list[dict[str, Any]]:
    """A worker of `all_reduce`: milliseconds of each kind of reduction."""
    import tensorflow.compat.v1 as tf

    from alexnet_tf1.distributed.cluster import Cluster
    from alexnet_tf1.distributed.collectives import Replica
    from alexnet_tf1.distributed.heartbeat import Peers

    rows = []
    with Peers(Cluster(tuple(addresses), task), 1, 60) as peers, tf.Graph().as_default():
        replica = Replica(len(addresses))
        vectors = {name: tf.Variable(tf.ones([size])) for name, size in VECTORS.items()}
        vectors["moments of 1,024 channels"] = tf.Variable(tf.ones([ONE_NORM], tf.float64))
        ends = {name: replica.average(vector).op for name, vector in vectors.items()}
        peers.wait()
        with tf.Session(peers.target, config=peers.configuration()) as session:
            session.run(tf.global_variables_initializer())
            for name, end in ends.items():
                times = []
                for _ in range(30):
                    started = time.perf_counter()
                    session.run(end)
                    times.append(1e3 * (time.perf_counter() - started))
                vector = vectors[name]
                rows.append(
                    {
                        "vector": name,
                        "workers": len(addresses),
                        "bytes": vector.shape.num_elements() * vector.dtype.size,
                        "ms": statistics.median(times[5:]),
                        "min": min(times[5:]),
                        "max": max(times[5:]),
                    }
                )
    return rows


def all_reduce() -> list[dict[str, Any]]:
    """Milliseconds of the reductions alone."""
    rows = []
    for workers in (2, 4):
        printed = wait(cluster([__file__, "--alone"], workers, 1))
        rows += json.loads(printed.splitlines()[-1])
    return rows


def overhead(place: Path, data: list[str], rounds: int, steps: int) -> list[dict[str, Any]]:
    """Milliseconds a step of one worker and of two, at two threads in all."""
    rows = []
    for batch_size in (20, 100):
        times: dict[int, list[float]] = {1: [], 2: []}
        for number in range(rounds):
            for workers in (1, 2) if number % 2 else (2, 1):
                options = ["--steps", str(steps), "--log-every", "5", "--test-batches", "1"]
                options += ["--batch-size", str(batch_size)]
                with tempfile.TemporaryDirectory(dir=place) as folder:
                    train(workers, 2 // workers, Path(folder) / "run", [*data, *options])
                    rates = records(Path(folder) / "run", "images_per_s")
                times[workers].append(1e3 * batch_size / statistics.median(rates[1:]))
                print(batch_size, workers, times[workers][-1], file=sys.stderr)
        ratios = [two / one for one, two in zip(times[1], times[2], strict=True)]
        rows.append(
            {
                "batch_size": batch_size,
                "1 worker, ms a step": statistics.median(times[1]),
                "2 workers, ms a step": statistics.median(times[2]),
                "ratio of medians": statistics.median(times[2]) / statistics.median(times[1]),
                "min": min(ratios),
                "max": max(ratios),
            }
        )
    return rows


def main() -> None:
    """Measures, prints tables, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", help="folder of CIFAR-10 (default: the embedded set)")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--only", choices=("exactness", "all-reduce", "overhead"))
    parser.add_argument("--variant", choices=VARIANTS, nargs="*", default=list(VARIANTS))
    parser.add_argument("--json", type=Path, default=Path("allreduce.json"))
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        config = json.loads(os.environ["TF_CONFIG"])
        rows = reduce_alone(config["task"]["index"], config["cluster"]["worker"])
        print(json.dumps(rows))
        return
    data = ["--dataset", "synthetic"]
    if options.data_dir:
        data = ["--dataset", "cifar10", "--data-dir", options.data_dir]
    found = {}
    with tempfile.TemporaryDirectory() as place:
        parts = {
            "exactness": lambda: exactness(Path(place), data, options.steps, options.variant),
            "all-reduce": all_reduce,
            "overhead": lambda: overhead(Path(place), data, options.rounds, 40),
        }
        for part in [options.only] if options.only else parts:
            found[part] = parts[part]()
            print("\n| " + " | ".join(found[part][0]) + " |\n|" + "---|" * len(found[part][0]))
            for row in found[part]:
                cells = (f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values())
                print("| " + " | ".join(cells) + " |")
    options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
