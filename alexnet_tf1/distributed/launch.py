"""A cluster of processes on this machine: a TF_CONFIG each, one console, one end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import IO, TextIO

from alexnet_tf1.distributed.cluster import VARIABLE
from alexnet_tf1.errors import UserError

HOST = "127.0.0.1"
MOST_WORKERS = 64
# The others notice within seconds that one has failed, and say which; then they are asked to stop.
PATIENCE_S = 15.0
_POLL_S = 0.05


PROGRAM = (sys.executable, "-m", "alexnet_tf1")


def launch(workers: int, command: Sequence[str], program: Sequence[str] = PROGRAM) -> int:
    """Runs a command as every worker of a cluster on this machine.

    SIGINT and SIGTERM are passed on, once each time; the workers then stop after the same step.

    Args:
      workers: how many.
      command: `train` and its options; a "--" before it is left out.
      program: what is given the command.

    Returns:
      0 if all ended so; else the status of the first that did not, 128 + N for signal N.

    Raises:
      UserError: if the command is not train.
    """
    command = list(command[1:] if command[:1] == ["--"] else command)
    if command[:1] != ["train"]:
        given = command[0] if command else "nothing"
        raise UserError(
            f"launch trains, and {given} is not train; write launch --workers N -- train"
        )
    return _Local(workers, [*program, *command]).run()


def environment_of(task: int, addresses: Sequence[str]) -> dict[str, str]:
    """The environment of a worker: its TF_CONFIG, and its share of the cores for TensorFlow."""
    config = {"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": task}}
    threads = max(1, (os.cpu_count() or 1) // len(addresses))
    return {
        "TF_NUM_INTRAOP_THREADS": str(threads),
        **os.environ,
        VARIABLE: json.dumps(config),
        "PYTHONUNBUFFERED": "1",
    }


def free_addresses(count: int) -> list[str]:
    """Addresses of this machine that nobody listens on: the system picks the ports.

    Raises:
      UserError: if there are not so many.
    """
    if count > MOST_WORKERS:
        raise UserError(
            f"--workers {count} is too many for one machine; use at most {MOST_WORKERS}"
        )
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [f"{HOST}:{one.getsockname()[1]}" for one in sockets]


class _Local:
    """The workers' processes."""

    def __init__(self, workers: int, command: Sequence[str]) -> None:
        self._signals: list[int] = []
        self._first: int | None = None
        addresses = free_addresses(workers)
        self._processes: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []
        for task in range(workers):
            process = subprocess.Popen(
                command,
                env=environment_of(task, addresses),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                # Ctrl-C comes to the launcher alone, which passes it on: once, not twice.
                start_new_session=True,
            )
            self._processes.append(process)
            for pipe, console in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
                assert pipe is not None
                reader = threading.Thread(target=_show, args=(task, pipe, console))
                reader.start()
                self._readers.append(reader)

    def run(self) -> int:
        """Waits for the end of all; stops the rest when one fails."""
        previous = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._wait()
        finally:
            for process in self._processes:
                if process.poll() is None:
                    process.kill()
            for reader in self._readers:
                reader.join()
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self._first or 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)

    def _wait(self) -> None:
        steps = [signal.SIGTERM, signal.SIGTERM, signal.SIGKILL]  # the second stops at once
        due = float("inf")
        while running := [p for p in self._processes if p.poll() is None]:
            for process in self._processes:
                status = process.poll()
                if status and self._first is None:
                    self._first = status if status > 0 else 128 - status
                    due = time.monotonic() + PATIENCE_S
            while self._signals:
                self._send(running, self._signals.pop(0))
            if time.monotonic() >= due:
                self._send(running, steps.pop(0) if steps else signal.SIGKILL)
                due = time.monotonic() + PATIENCE_S / 3
            time.sleep(_POLL_S)
        for process in self._processes:
            if process.returncode and self._first is None:
                status = process.returncode
                self._first = status if status > 0 else 128 - status

    def _send(self, running: Sequence[subprocess.Popen[str]], number: int) -> None:
        for process in running:
            process.send_signal(number)


def _show(task: int, pipe: IO[str], console: TextIO) -> None:
    """Passes on what a worker prints, a line at a time, under its name."""
    for line in pipe:
        console.write(
            f"[worker {task}] {line}" if line.endswith("\n") else f"[worker {task}] {line}\n"
        )
        console.flush()
    pipe.close()
