"""Runs the command line in forks of a server that has TensorFlow imported: a second less each."""

import functools
import multiprocessing
import os
import sys
import time
from pathlib import Path

from support.small_network import make_small
from support.small_set import TINY

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tensorflow.compat.v1", "alexnet_tf1.supervisor.run"])


def command(arguments, output, sizes, largest_file, environment):
    """Body of a fork: a small `alexnet-tf1 ARGUMENTS`, its output in a file."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.update(environment)
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # The server's own were made for its pipes.
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    if largest_file:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    from alexnet_tf1.cli import main as cli
    from alexnet_tf1.data import synthetic

    make_small(setattr, functools.partial(synthetic.generate, **sizes))
    sys.exit(cli.main([str(argument) for argument in arguments]))


class Command:
    """A started command."""

    def __init__(
        self, arguments, output: Path, *, generate=TINY, largest_file=None, environment=()
    ):
        self.output = output
        self.output.unlink(missing_ok=True)
        given = (arguments, output, generate.keywords, largest_file, environment)
        self.process = CONTEXT.Process(target=command, args=given)
        self.process.start()

    def text(self):
        return self.output.read_text() if self.output.exists() else ""

    def wait_for(self, words, seconds=60):
        """Until the output has these words, or the process has ended."""
        deadline = time.monotonic() + seconds
        while words not in self.text() and self.process.is_alive():
            assert time.monotonic() < deadline, f"no {words!r} in:\n{self.text()}"
            time.sleep(0.005)

    def end(self, seconds=120):
        """Its exit status; negative for a signal."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, self.text()
        return self.process.exitcode
