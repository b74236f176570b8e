"""Every figure of docs/performance.md that needs a GPU, in one call.

    python benchmarks/gpu.py [--data-dir DIR] [--out DIR]

For batch sizes 20, 128 and 1,024: the default loop, `--fast`, `--fast --precision bfloat16`, and
PyTorch where installed, taking turns (step_time.py). Then a whole `--fast` run of 10,000 steps,
and the losses of 100 steps at a small learning rate on the GPU against the CPU. Without a GPU it
says so and ends with status 2; `--anyway` runs it on the CPU, to try the script.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from peers import PEERS

HERE = Path(__file__).resolve().parent
LOOPS = ["default", "fast", "fast, bfloat16", "default, bfloat16"]

LOSSES = """
import json, sys
import tensorflow.compat.v1 as tf
sys.path.insert(0, {here!r})
from loops import load
from alexnet_tf1 import session
from alexnet_tf1.runs.network import build_network
from alexnet_tf1.data.batches import Batches
from alexnet_tf1.config import TrainConfig
tf.disable_eager_execution()
tf.set_random_seed(0)
net = build_network(TrainConfig(learning_rate=1e-5, fast={fast}))
batches = Batches(load({data!r}).train, 0)
found = []
with session.open_session(fast={fast}) as s:
    s.run(tf.global_variables_initializer())
    for _ in range(100):
        images, labels = batches.next_batch(20)
        feed = {{net.images: images, net.labels: labels, net.is_training: True}}
        found.append(float(s.run([net.loss, net.train_op], feed)[0]))
print(json.dumps(found))
"""


def losses(data_dir: str | None, *, fast: bool, gpu: bool) -> list[float]:
    """The losses of 100 steps at a learning rate of 1e-5, in a process of its own."""
    environment = dict(os.environ) if gpu else {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    script = LOSSES.format(here=str(HERE), fast=fast, data=data_dir)
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True,
        env=environment,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Measures and writes gpu.json and the tables of the parts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", help="folder of CIFAR-10 (default: the embedded set)")
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10_000, help="of the whole run")
    parser.add_argument("--anyway", action="store_true", help="run without a GPU")
    options = parser.parse_args()
    from alexnet_tf1.system import hardware

    if not (hardware.has_gpu() or options.anyway):
        print("error: TensorFlow sees no GPU; see pip install '.[gpu]'", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    data = ["--data-dir", options.data_dir] if options.data_dir else []
    found: dict[str, Any] = {"device": hardware.device(), "versions": hardware.versions()}
    import importlib.util

    peers = [loop for loop in PEERS if loop.startswith("PyTorch")]
    peers = peers if importlib.util.find_spec("torch") else []
    for batch_size in (20, 128, 1024):
        path = options.out / f"step_time_{batch_size}.json"
        command = [sys.executable, HERE / "step_time.py", "--batch-size", str(batch_size), *data]
        command += ["--rounds", str(options.rounds), "--json", path, "--loops", *LOOPS, *peers]
        subprocess.run(command, check=True)
        found[f"batch {batch_size}"] = json.loads(path.read_text())["rows"]
    run = options.out / "run"
    command = [sys.executable, "-m", "alexnet_tf1", "train", "--fast", "--steps"]
    subprocess.run([*command, str(options.steps), "--run-dir", run, *data], check=True)
    result = json.loads((run / "result.json").read_text())
    found["run"] = {k: result[k] for k in ("wall_s", "steps_per_s", "test_accuracy_full")}
    on_cpu = losses(options.data_dir, fast=False, gpu=False)
    for fast in (False, True):
        on_gpu = losses(options.data_dir, fast=fast, gpu=True)
        differences = [abs(a - b) for a, b in zip(on_cpu, on_gpu, strict=True)]
        found[f"largest loss difference to the CPU, fast={fast}"] = max(differences)
    (options.out / "gpu.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
