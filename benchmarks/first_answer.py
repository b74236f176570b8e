"""How long --help, audit and doctor take, and how much of it is TensorFlow's import.

    python benchmarks/first_answer.py

Each is a process, timed from its start to its end, by the clock and in processor seconds; they take
turns, and the first round, in which Python writes its bytecode, is not counted. TensorFlow's import
is timed within the process; what is left is ours, with the start of Python and the end of the
process. Audited is the graph, and examined the checkpoint, of a run of one step.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def timed_command(arguments: list[str]) -> None:
    """Runs a command in this process; prints first what TensorFlow's import took."""
    from alexnet_tf1.cli import commands, main

    import_tensorflow = commands.import_tensorflow

    def timed_import() -> None:
        before = time.perf_counter(), time.process_time()
        import_tensorflow()
        print(time.perf_counter() - before[0], time.process_time() - before[1])

    commands.import_tensorflow = timed_import
    sys.exit(main.main(arguments))


def whole_process(arguments: list[str]) -> list[tuple[float, float]]:
    """Times a command: clock and processor seconds in all, and those of TensorFlow's import."""
    # Whoever installs the program has its bytecode, so it is written here too.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(HERE.parent)
    command = [sys.executable, __file__, "--command", *arguments]
    used, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    seconds, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode > 1:  # 1: faults were found
        sys.exit(f"{arguments} ended with status {done.returncode}")
    processor = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    imports = [0.0, 0.0]
    if arguments != ["--help"]:
        imports = [float(number) for number in done.stdout.split("\n")[0].split()]
    return list(zip((seconds, processor), imports, strict=True))


def main() -> None:
    """Makes the run, takes turns, prints a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.command:
        timed_command(options.command)
    with tempfile.TemporaryDirectory() as folder:
        training = ["--dataset", "synthetic", "--steps", "1", "--test-batches", "1", "--quiet"]
        whole_process(["train", *training, "--run-dir", folder])
        prefix = f"{folder}/checkpoints/model.ckpt-1"
        commands = {
            "--help": ["--help"],
            "audit FILE.meta": ["audit", f"{prefix}.meta"],
            "doctor PREFIX": ["doctor", prefix],
        }
        found = [
            {name: whole_process(command) for name, command in commands.items()}
            for _ in range(options.rounds + 1)
        ][1:]
    print("| median (min to max), s | whole | TensorFlow's import | the rest |")
    print("|---|---|---|---|")
    for name in commands:
        for number, kind in enumerate(("clock", "processor")):
            pairs = [one[name][number] for one in found]
            columns = [[a for a, _ in pairs], [b for _, b in pairs], [a - b for a, b in pairs]]
            cells = (f"{statistics.median(c):.2f} ({min(c):.2f} to {max(c):.2f})" for c in columns)
            print(f"| `{name}`, {kind} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
