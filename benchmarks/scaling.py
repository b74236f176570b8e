"""What a step costs by batch size, an epoch by data size, and how long the first step takes.

    python benchmarks/scaling.py [--data-dir DIR]     # tables and scaling.json

Batch and data sizes: the default loop and `--fast`, each in a process of its own, taking turns.
First step: whole processes from their start to the first step's loss, taking turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from loops import LOOPS, flops, load
from step_time import Worker

BATCHES = (1, 5, 20, 100, 500, 1000)
OURS = ("default", "fast")
STARTS = ("reference", "default", "fast", "fast, bfloat16")


def by_batch(data_dir: str | None, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds a step and an image, for each batch size."""
    rows = []
    for batch_size in BATCHES:
        workers = {name: Worker(name, data_dir, batch_size) for name in OURS}
        steps = max(2, 400 // (10 + batch_size))
        blocks: dict[str, list[float]] = {name: [] for name in OURS}
        for number in range(rounds + 1):  # the first round is not counted
            for name in OURS if number % 2 else OURS[::-1]:
                seconds = workers[name].block(steps)["seconds"] / steps
                blocks[name] += [seconds] if number else []
        for name in OURS:
            median = statistics.median(blocks[name])
            memory = workers[name].block(1)["peak_rss_mb"]
            workers[name].close()
            rows.append(
                {
                    "loop": name,
                    "batch_size": batch_size,
                    "ms_per_step": 1e3 * median,
                    "ms_per_image": 1e3 * median / batch_size,
                    "gflops": 1e-9 * flops(batch_size) / median,
                    "peak_rss_mb": memory,
                }
            )
            print(f"batch {batch_size}, {name}: {1e3 * median:.1f} ms", file=sys.stderr)
    return rows


def by_data(data_dir: str | None, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds a step of the default loop on the first N training images."""
    from alexnet_tf1.data.dataset import Split

    whole = load(data_dir)
    sizes = [len(whole.train.labels) // part for part in (10, 5, 2, 1)]
    runs = {}
    for size in sizes:
        import tensorflow.compat.v1 as tf

        split = Split(whole.train.images[:size], whole.train.labels[:size])
        tf.reset_default_graph()
        runs[size] = LOOPS["default"](whole._replace(train=split), 20)
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(rounds + 1):
        for size, run in runs.items():
            started = time.perf_counter()
            run(20)
            times[size] += [(time.perf_counter() - started) / 20] if number else []
    return [{"images": size, "ms_per_step": 1e3 * statistics.median(times[size])} for size in sizes]


def first_steps(data_dir: str | None, rounds: int) -> list[dict[str, Any]]:
    """Seconds from a process's start to the end of its first step."""
    times: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(rounds):
        for name in STARTS:
            started = time.perf_counter()
            worker = Worker(name, data_dir, 20)
            worker.block(1)
            times[name].append(time.perf_counter() - started)
            worker.close()
    base = statistics.median(times["reference"])
    return [
        {
            "loop": name,
            "seconds": statistics.median(found),
            "ratio": statistics.median(found) / base,
            "min": min(found),
            "max": max(found),
        }
        for name, found in times.items()
    ]


def main() -> None:
    """Measures, prints tables, writes the JSON. Each part has a process of its own."""
    parts = {"batch": by_batch, "data": by_data, "start": first_steps}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", help="folder of CIFAR-10 (default: the embedded set)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("scaling.json"))
    parser.add_argument("--part", choices=parts, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(parts[options.part](options.data_dir, options.rounds)))
        return
    found = {}
    for part in parts:
        command = [sys.executable, __file__, "--part", part, "--rounds", str(options.rounds)]
        command += ["--data-dir", options.data_dir] if options.data_dir else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[part] = json.loads(done.stdout.splitlines()[-1])
        columns = list(found[part][0])
        print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
        for row in found[part]:
            cells = (f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values())
            print("| " + " | ".join(cells) + " |")
    options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
