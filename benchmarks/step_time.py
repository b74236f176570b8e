"""How long a training step takes, against the original program's loop.

    python benchmarks/step_time.py                 # embedded data; a table and step_time.json
    python benchmarks/step_time.py --data-dir DIR  # CIFAR-10
    python benchmarks/step_time.py --peers PYTHON  # PyTorch and JAX from another environment

Each loop lives in a process of its own and runs when it is its turn: a block of steps of one,
then of the next, round after round, so that a machine whose speed drifts favours none. The
figures are medians over the rounds; `ratio` is the ratio of the medians, its spread the smallest
and largest ratio within one round. The last column is the fraction of the machine's own float32
matrix-product rate (1024 x 1024), measured in the same rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from loops import LOOPS, flops, load, matmul_rate

PACKAGES = {"reference": "tf_keras", "Keras 3 fit": "keras", "PyTorch": "torch", "JAX": "jax"}
FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
RATES = {"float32 products": "float32", "bfloat16 products": "bfloat16"}
COMPILED = re.compile("XLA|JAX|compiled")  # loops whose first step takes long
PRODUCTS = 20  # 1024 x 1024 products a block, 43 GFLOP


def python_of(loop: str, peers: str) -> str:
    """Finds the Python that runs a loop: this one, or that of the peers."""
    return peers if loop.startswith(("PyTorch", "JAX")) else sys.executable


def package(loop: str, peers: str) -> str | None:
    """Asks for the version of the package that a loop needs; None if it is not installed."""
    name = PACKAGES.get(loop.split(",")[0], "tensorflow")
    ask = f"from importlib.metadata import version; print('{name}', version('{name}'))"
    done = subprocess.run([python_of(loop, peers), "-c", ask], capture_output=True, text=True)
    return done.stdout.strip() or None


def processor() -> dict[str, Any]:
    """Reads the processor's name and its units for vectors and matrices (Linux)."""
    told = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    fields = dict(re.findall(r"^(model name|flags)\s*: (.*)$", told, re.M))
    has = set(fields.get("flags", "").split())
    return {
        "name": fields.get("model name", platform.processor()),
        "features": [feature for feature in FEATURES if feature in has],
    }


def worker(name: str, data_dir: str | None, batch_size: int) -> None:
    """Runs blocks of steps on request: a number of steps a line in, seconds and memory out."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed must not look like a reply
    run = matmul_rate(RATES[name]) if name in RATES else LOOPS[name](load(data_dir), batch_size)
    for line in sys.stdin:
        started = time.perf_counter()
        run(int(line))
        elapsed = time.perf_counter() - started
        from alexnet_tf1.system.hardware import peak_rss_mb

        print(json.dumps({"seconds": elapsed, "peak_rss_mb": peak_rss_mb()}), file=replies)
        replies.flush()


class Worker:
    """A loop in its process."""

    def __init__(
        self, name: str, data_dir: str | None, batch_size: int, python: str = sys.executable
    ) -> None:
        self.name = name
        command = [python, __file__, "--worker", name, "--batch-size", str(batch_size)]
        command += ["--data-dir", data_dir] if data_dir else []
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # the loops share one GPU
        root = str(Path(__file__).resolve().parents[1])
        environment["PYTHONPATH"] = os.pathsep.join(
            [root, *filter(None, [os.getenv("PYTHONPATH")])]
        )
        if name == "reference":
            environment["TF_USE_LEGACY_KERAS"] = "1"
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )

    def begin(self, steps: int) -> None:
        """Has it run so many steps."""
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            print(steps, file=self._process.stdin, flush=True)

    def end(self) -> dict[str, float]:
        """Waits until they are done; returns their seconds and the process's peak memory."""
        if not (reply := self._process.stdout.readline()):
            self._log.seek(0)
            sys.exit(f"the loop {self.name} ended early:\n{self._log.read()}")
        return json.loads(reply)

    def block(self, steps: int) -> dict[str, float]:
        """Runs so many steps, as `begin` and `end` do."""
        self.begin(steps)
        return self.end()

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Takes turns; returns one dict of blocks a round."""
    names = [*options.loops, *RATES]
    workers = [
        Worker(name, options.data_dir, options.batch_size, python_of(name, options.peers))
        for name in names
    ]
    steps = {name: PRODUCTS if name in RATES else options.steps for name in names}
    # The first steps build and allocate, and are not counted. Compilers work at the same time, as
    # each takes half a minute; on a GPU XLA then tries its kernels beside the others'.
    compiled = [one for one in workers if COMPILED.search(one.name)]
    for one in compiled:
        one.begin(steps[one.name])
    for one in compiled:
        one.end()
    for one in workers:
        if one not in compiled:
            one.block(steps[one.name])
    rounds = []
    for number in range(options.rounds):
        turn = workers if number % 2 == 0 else workers[::-1]
        found = {one.name: one.block(steps[one.name]) for one in turn}
        rounds.append(found)
        line = "  ".join(f"{k} {1e3 * found[k]['seconds'] / steps[k]:.1f}" for k in names)
        print(f"round {number + 1}, ms: {line}", file=sys.stderr)
    for one in workers:
        one.close()
    return rounds


def summarise(rounds: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds."""
    rate = {
        kind: 2e-9 * 1024**3 * PRODUCTS / statistics.median(r[name]["seconds"] for r in rounds)
        for name, kind in RATES.items()
    }
    base = options.loops[0]
    rows = []
    for name in options.loops:
        seconds = statistics.median(r[name]["seconds"] for r in rounds) / options.steps
        ratios = [r[name]["seconds"] / r[base]["seconds"] for r in rounds]
        of_base = statistics.median(r[base]["seconds"] for r in rounds) / options.steps
        rows.append(
            {
                "loop": name,
                "package": package(name, options.peers),
                "ms_per_step": 1e3 * seconds,
                "images_per_s": options.batch_size / seconds,
                "ratio": seconds / of_base,
                "ratio_min": min(ratios),
                "ratio_max": max(ratios),
                "peak_rss_mb": rounds[-1][name]["peak_rss_mb"],
                "of_matmul_rate": 1e-9 * flops(options.batch_size) / seconds / rate["float32"],
            }
        )
    from alexnet_tf1.system import hardware

    return {
        "data": "cifar10" if options.data_dir else "synthetic",
        "batch_size": options.batch_size,
        "steps_a_block": options.steps,
        "rounds": options.rounds,
        "gflops_of_products": rate,
        "gflop_per_step": 1e-9 * flops(options.batch_size),
        "device": hardware.device(),
        "processor": processor(),
        "versions": hardware.versions(),
        "rows": rows,
    }


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", help="folder of CIFAR-10 (default: the embedded set)")
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40, help="steps a block")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--loops", nargs="+", choices=LOOPS, metavar="LOOP",
                        help="first the one to compare with; of: " + "; ".join(LOOPS)
                        + " (default: all that are installed)")  # fmt: skip
    parser.add_argument("--peers", metavar="PYTHON", default=sys.executable,
                        help="the Python that PyTorch and JAX are installed for")  # fmt: skip
    parser.add_argument("--json", type=Path, default=Path("step_time.json"))
    parser.add_argument("--worker", choices=[*LOOPS, *RATES], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.data_dir, options.batch_size)
        return
    options.loops = options.loops or [loop for loop in LOOPS if package(loop, options.peers)]
    found = summarise(measure(options), options)
    print("| loop | ms/step | images/s | ratio (min to max) | peak memory | of product rate |")
    print("|---|---|---|---|---|---|")
    for row in found["rows"]:
        print(
            f"| {row['loop']} | {row['ms_per_step']:.1f} | {row['images_per_s']:.0f} "
            f"| {row['ratio']:.3f} ({row['ratio_min']:.3f} to {row['ratio_max']:.3f}) "
            f"| {row['peak_rss_mb']:.0f} MB | {row['of_matmul_rate']:.2f} |"
        )
    rate = found["gflops_of_products"]
    print(f"products: {rate['float32']:.0f} GFLOP/s float32, {rate['bfloat16']:.0f} bfloat16")
    options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
