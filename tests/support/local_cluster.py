"""Clusters of real processes on loopback, forked from a server that has TensorFlow imported."""

import json
import time

import numpy as np

from alexnet_tf1.checkpoint.reader import Checkpoint
from alexnet_tf1.distributed.launch import environment_of, free_addresses
from support.forked import Command
from support.small_set import SMALL


class Workers:
    """Started workers of a cluster, each with the same command."""

    def __init__(self, count, folder, options, missing=(), own=None):
        """`missing` are not started; `own` has more options for some."""
        folder.mkdir(parents=True, exist_ok=True)
        self.run = folder / "run"
        self.addresses = free_addresses(count)
        self.commands = {
            task: Command(
                ["train", *options, "--run-dir", self.run, *(own or {}).get(task, [])],
                folder / f"worker{task}",
                generate=SMALL,
                environment=environment_of(task, self.addresses),
            )
            for task in range(count)
            if task not in missing
        }

    def name(self, task):
        return f"worker {task} ({self.addresses[task]})"

    def wait_for_step(self, step, seconds=60):
        deadline = time.monotonic() + seconds
        while last_step(self.run) < step:
            assert time.monotonic() < deadline, self.texts()
            assert all(c.process.is_alive() for c in self.commands.values()), self.texts()
            time.sleep(0.005)

    def end(self, seconds=60):
        """The exit statuses, by task."""
        return {task: command.end(seconds) for task, command in self.commands.items()}

    def texts(self):
        return {task: command.text() for task, command in self.commands.items()}

    def last_line(self, task):
        return self.commands[task].text().splitlines()[-1]


def records(run):
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def last_step(run):
    return max((record["step"] for record in records(run)), default=0)


def losses(run):
    return np.array([record["loss"] for record in records(run) if "loss" in record])


def variables(run, step):
    saved = Checkpoint(str(run / f"checkpoints/model.ckpt-{step}"))
    return {name: saved.read(name) for name in saved.variables}
