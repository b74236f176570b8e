"""The figures of docs/performance.md, "On a GPU", but for those of XLA; a part after the other.

    python benchmarks/gpu.py --data-dir DIR [--out DIR] [--parts PART ...]

original: `run_train.py`'s run of 10,000 steps. fast: the same with `--fast`, in float32 and
bfloat16. recipes: quick and best. step_times: the time of a step of `--loops` at each of
`--batch-sizes` (step_time.py). deterministic: what deterministic ops cost. losses: the GPU's
against the CPU's. bits: what repeats bit for bit on the GPU, in one step and after a kill.
hidden: what `env` says when libraries or the GPU are hidden. Results are in DIR as they come, a
file a part. Without a GPU it says so and ends with status 2; `--anyway` runs it on the CPU, to
try the script.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from loops import LOOPS

ROOT = Path(__file__).resolve().parents[1]
PARTS = "original step_times deterministic fast recipes losses bits hidden".split()
OURS = ["reference", "default", "fast", "fast, bfloat16"]
DETERMINISTIC = {"TF_DETERMINISTIC_OPS": "1"}  # what enable_op_determinism sets for the kernels
HIDDEN = {
    "as it is": {},
    "CUDA_VISIBLE_DEVICES is empty": {"CUDA_VISIBLE_DEVICES": ""},
    "LD_LIBRARY_PATH names a folder without libraries": {"LD_LIBRARY_PATH": "/nowhere"},
}

STEPS_OF_A_LOOP = """
import json, os, sys
import numpy as np
import tensorflow.compat.v1 as tf
from alexnet_tf1 import session
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.batches import Batches
from alexnet_tf1.runs.network import build_network
sys.path.insert(0, os.path.join({root!r}, "benchmarks"))
from loops import load
tf.disable_eager_execution()
tf.set_random_seed(0)
net = build_network(TrainConfig(learning_rate={rate}))
weights = tf.trainable_variables()
gradients = tf.gradients(net.loss, weights)
batches = Batches(load({data!r}).train, 0)
losses = []
with session.open_session() as s:
    s.run(tf.global_variables_initializer())
    images, labels = batches.next_batch(20)
    feed = {{net.images: images, net.labels: labels, net.is_training: True}}
    runs = [s.run([net.loss, *gradients], feed) for _ in range({repeats})]
    names = ["loss", *(v.op.name for v in weights)]
    differ = [name for name, *values in zip(names, *runs)
              if any(not np.array_equal(value, values[0]) for value in values)]
    for _ in range({steps}):
        losses.append(float(s.run([net.loss, net.train_op], feed)[0]))
        images, labels = batches.next_batch(20)
        feed = {{net.images: images, net.labels: labels, net.is_training: True}}
print(json.dumps({{"losses": losses, "differ": differ}}))
"""


class Bench:
    """Where the parts find the data and leave their results."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Takes what was typed."""
        self.data_dir, self.out = options.data_dir, options.out
        self.steps, self.rounds = options.steps, options.rounds
        self.loops, self.batch_sizes = options.loops, options.batch_sizes
        self.data = ["--data-dir", self.data_dir] if self.data_dir else []

    def train(self, name: str, *typed: str, **environment: str) -> dict[str, Any]:
        """Trains in a process of its own and times it whole."""
        folder = self.out / "runs" / name
        started = time.perf_counter()
        status = self.start(folder, *typed, **environment).wait()
        log = folder.with_suffix(".log").read_text().splitlines()
        if status:
            return {"typed": list(typed), "status": status, "log": log}
        result = json.loads((folder / "result.json").read_text())
        kept = ("wall_s", "steps_per_s", "test_accuracy", "test_accuracy_full")
        kept += ("batch_statistics_accuracy_full", "device", "execution")
        return {
            "typed": list(typed),
            "process_s": time.perf_counter() - started,
            **{key: result[key] for key in kept},
            "log": log,
        }

    def start(self, folder: Path, *typed: str, **environment: str) -> subprocess.Popen[str]:
        """Starts a training process that writes its run folder and its console beside it."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(ROOT / "run_train.py"), "--run-dir", str(folder)]
        command += self.data or ["--dataset", "synthetic"]
        with folder.with_suffix(".log").open("a") as log:
            return subprocess.Popen(
                [*command, *typed], stdout=log, stderr=log, text=True, cwd=self.out,
                env=environment_with(**environment),
            )  # fmt: skip

    def original(self) -> Any:
        """The README's main command."""
        return self.train("original", "--steps", str(self.steps))

    def fast(self) -> Any:
        """The same with `--fast`."""
        typed = ["--fast", "--steps", str(self.steps)]
        return {
            "float32": self.train("fast", *typed),
            "bfloat16": self.train("fast-bfloat16", *typed, "--precision", "bfloat16"),
        }

    def recipes(self) -> Any:
        """The recipes as they are."""
        return {name: self.train(name, "--recipe", name) for name in ("quick", "best")}

    def step_times(self) -> Any:
        """The loops in turn, at each batch size."""
        return {f"batch {size}": self._step_time(size, self.loops) for size in self.batch_sizes}

    def deterministic(self) -> Any:
        """Our loops with deterministic ops, to set beside those of step_times."""
        return self._step_time(20, ["default", "fast"], **DETERMINISTIC)

    def _step_time(self, size: int, loops: list[str], **environment: str) -> Any:
        path = self.out / "step_time.json"
        command = [sys.executable, str(ROOT / "benchmarks/step_time.py"), *self.data]
        command += ["--batch-size", str(size), "--rounds", str(self.rounds), "--json", str(path)]
        command += ["--steps", str(max(20, 4000 // size)), "--loops", *loops]
        done = subprocess.run(
            command, stderr=subprocess.PIPE, text=True, env=environment_with(**environment)
        )
        return done.stderr if done.returncode else json.loads(path.read_text())

    def losses(self) -> Any:
        """60 losses at the original's rate, 100 at a small one: how far the GPU is off."""
        found: dict[str, Any] = {}
        for rate, steps in ((1e-3, 60), (1e-5, 100)):
            gpu, cpu = (
                self.loop(rate, steps, 1, **environment)["losses"]
                for environment in ({}, {"CUDA_VISIBLE_DEVICES": ""})
            )
            apart = [abs(a - b) for a, b in zip(gpu, cpu, strict=True)]
            found[f"rate {rate}"] = {"gpu": gpu, "cpu": cpu, "largest": max(apart)}
        return found

    def loop(self, rate: float, steps: int, repeats: int, **environment: str) -> dict[str, Any]:
        """Losses of the session loop, and which gradients differ when a step is repeated."""
        settings = {"root": str(ROOT), "data": self.data_dir, "rate": rate}
        script = STEPS_OF_A_LOOP.format(**settings, steps=steps, repeats=repeats)
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True,
            env=environment_with(**environment),
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])

    def bits(self) -> Any:
        """Which gradients differ in a step that is repeated, and which variables after a kill.

        All of them at once, as nothing is timed.
        """
        work = {}
        with ThreadPoolExecutor() as pool:
            for name, environment in (("", {}), ("deterministic ", DETERMINISTIC)):
                repeated = pool.submit(self.loop, 1e-3, 0, 20, **environment)
                work[f"{name}gradients"] = repeated
                for loop, typed in (("default", []), ("fast", ["--fast"])):
                    arguments = (name + loop, typed, environment)
                    work[name + loop] = pool.submit(self._kill_and_resume, *arguments)
        return {name: done.result() for name, done in work.items()}

    def _kill_and_resume(self, name: str, typed: list[str], environment: dict[str, str]) -> Any:
        half = max(2, self.steps // 20)
        typed = [*typed, "--steps", str(2 * half), "--checkpoint-every", str(half)]
        folders = [self.out / "runs" / f"{name}-{kind}" for kind in ("whole", "again", "killed")]
        started = [self.start(folder, *typed, **environment) for folder in folders]
        while not (folders[2] / f"checkpoints/model.ckpt-{half}.meta").exists():
            if started[2].poll() is not None:
                return "ended before it could be killed"
            time.sleep(0.02)
        started[2].send_signal(signal.SIGKILL)
        for process in started:
            process.wait()
        self.start(folders[2], *typed, "--resume", **environment).wait()
        last = f"checkpoints/model.ckpt-{2 * half}"
        first, *others = ([*weights(folder / last)] for folder in folders)
        return {
            kind: [a for (a, x), (_, y) in zip(first, other, strict=True) if x != y]
            for kind, other in zip(("differ again", "differ after a kill"), others, strict=True)
        }

    def hidden(self) -> Any:
        """What `env` says, and a process's own log of why."""
        found = {}
        for name, environment in HIDDEN.items():
            command = [sys.executable, "-m", "alexnet_tf1", "env", "--json"]
            done = subprocess.run(
                command, capture_output=True, text=True, cwd=ROOT,
                env=environment_with(TF_CPP_MIN_LOG_LEVEL="0", **environment),
            )  # fmt: skip
            found[name] = {"out": done.stdout, "err": done.stderr, "status": done.returncode}
        return found


def environment_with(**more: str) -> dict[str, str]:
    """This process's environment and more."""
    return {**os.environ, **more}


def weights(prefix: Path) -> Iterable[tuple[str, bytes]]:
    """Names and bytes of a checkpoint's variables, by name."""
    from alexnet_tf1.checkpoint.reader import Checkpoint

    checkpoint = Checkpoint(prefix)
    return ((name, checkpoint.read(name).tobytes()) for name in sorted(checkpoint.variables))


def main() -> int:
    """Measures the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", help="folder of CIFAR-10 (default: the embedded set)")
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10_000, help="of a whole run")
    parser.add_argument("--anyway", action="store_true", help="run without a GPU")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[20, 128, 1024])
    parser.add_argument("--loops", nargs="+", choices=LOOPS, metavar="LOOP", default=OURS,
                        help="first the one to compare with; of: " + "; ".join(LOOPS))  # fmt: skip
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    from alexnet_tf1.system import hardware

    if not (hardware.has_gpu() or options.anyway):
        print("error: TensorFlow sees no GPU; see pip install '.[gpu]'", file=sys.stderr)
        return 2
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    for part in options.parts:
        measure: Callable[[], Any] = getattr(bench, part)
        started = time.perf_counter()
        found = {"versions": hardware.versions(), "device": hardware.device(), part: measure()}
        path = options.out / f"{part}.json"
        path.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{part}: {time.perf_counter() - started:.0f} s, {path}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
