"""A cluster of processes on this machine: a TF_CONFIG each, one console, one end."""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, TextIO

from alexnet_tf1.distributed.cluster import VARIABLE
from alexnet_tf1.errors import UserError
from alexnet_tf1.system.terminal import OutputError, write

HOST = "127.0.0.1"
MOST_WORKERS = 64
# The others notice within seconds that one has failed, and say which; then they are asked to stop.
PATIENCE_S = 15.0
_POLL_S = 0.05
_LAUNCHER = "ALEXNET_TF1_LAUNCHER"  # the environment variable with the launcher's pid
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
_PRINTING = threading.Lock()  # a line at a time
PROGRAM = (sys.executable, "-m", "alexnet_tf1")


def launch(workers: int, command: Sequence[str], program: Sequence[str] = PROGRAM) -> int:
    """Runs a command as every worker of a cluster on this machine.

    SIGINT and SIGTERM are passed on, once each time, and SIGHUP as SIGTERM; the workers then stop
    after the same step. So they do where nobody reads what they print any more.

    Args:
      workers: how many.
      command: `train` and its options; a "--" before it is left out.
      program: what is given the command.

    Returns:
      0 if all ended so; else the status of the first that did not, 128 + N for signal N; 128 +
      SIGPIPE where nobody reads what they print.

    Raises:
      UserError: if the command is not train, or not all workers can be started.
    """
    command = list(command[1:] if command[:1] == ["--"] else command)
    if command[:1] != ["train"]:
        given = f", not {command[0]}" if command else ""
        raise UserError(
            f"launch takes a train command{given}; write launch --workers N -- train [options]"
        )
    return _run(workers, [*program, *command])


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


def end_with_launcher() -> None:
    """Has this process given SIGTERM when the launcher that started it dies, however it dies.

    Only Linux can; a worker in a session of its own would otherwise train on.
    """
    launcher = os.environ.pop(_LAUNCHER, "")
    if not launcher or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if str(os.getppid()) != launcher:  # it is dead already
        os.kill(os.getpid(), signal.SIGTERM)


def _run(workers: int, command: Sequence[str]) -> int:
    """Starts the workers and waits for the end of all; returns the status as `launch` does."""
    processes: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []
    unread = threading.Event()
    signals: list[int] = []  # received, and not yet passed on
    previous = {
        number: signal.signal(number, lambda number, _: signals.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        addresses = free_addresses(workers)
        for task in range(workers):
            processes.append(_start(command, environment_of(task, addresses)))
            process = processes[-1]
            for pipe, console in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
                reader = threading.Thread(target=_show, args=(task, pipe, console, unread))
                reader.start()
                readers.append(reader)
        status = _wait(processes, signals, unread)
        return 128 + signal.SIGPIPE if unread.is_set() else status
    except OSError as error:
        raise UserError(
            f"--workers {workers} could not be started ({error.strerror}); start fewer, or allow "
            "more open files and processes (ulimit -n, ulimit -u)"
        ) from None
    finally:
        for process in processes:
            process.kill()  # of one that has ended, nothing
            process.wait()
        for reader in readers:
            reader.join()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _start(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env={**environment, _LAUNCHER: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # Ctrl-C comes to the launcher alone, which passes it on: once, not twice.
        start_new_session=True,
    )


def _wait(
    processes: Sequence[subprocess.Popen[str]], signals: list[int], unread: threading.Event
) -> int:
    """Passes signals on, and stops the rest when one fails or nobody reads what they print."""
    told = False
    steps = [signal.SIGTERM, signal.SIGTERM, signal.SIGKILL]  # the second stops at once
    first, due = 0, float("inf")
    while True:
        running = [process for process in processes if process.poll() is None]
        failed = [process.returncode for process in processes if process.returncode]
        if failed and not first:
            first = failed[0] if failed[0] > 0 else 128 - failed[0]
            due = time.monotonic() + PATIENCE_S
        if not running:
            return first
        received = [signals.pop(0) for _ in range(len(signals))]
        # Workers save what they have at SIGTERM, and not at SIGHUP.
        sending = [signal.SIGTERM if n == signal.SIGHUP else n for n in received]
        if unread.is_set() and not told:
            sending.append(signal.SIGTERM)
            told = True
        if time.monotonic() >= due:
            sending.append(steps.pop(0) if steps else signal.SIGKILL)
            due = time.monotonic() + PATIENCE_S / 3
        for number in sending:
            for process in running:
                process.send_signal(number)
        time.sleep(_POLL_S)


def _show(task: int, pipe: IO[str], console: TextIO, unread: threading.Event) -> None:
    """Passes on what a worker prints, a line at a time, under its name.

    Where nobody reads it any more it is still taken from the pipe, or the worker would wait.
    """
    for line in pipe:
        try:
            with _PRINTING:
                write(f"[worker {task}] {line.removesuffix(chr(10))}", console)
        except OutputError:
            unread.set()
    pipe.close()
