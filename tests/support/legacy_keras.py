"""Runs programs that need the real tf.layers, in forks of a process that has imported them.

`tf.compat.v1.layers` exists only with the tf_keras package and TF_USE_LEGACY_KERAS=1, both of
which must be settled before TensorFlow is imported. That costs five seconds of processor time:
here once for each of xdist's workers, and not once for each program.
"""

import atexit
import functools
import importlib.util
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(script, *arguments):
    """Returns what `python SCRIPT ARGUMENTS` prints; its end by an error fails the test."""
    import pytest

    if importlib.util.find_spec("tf_keras") is None:
        pytest.skip("the real tf.layers need tf_keras; pip install '.[test]'")
    server = started()
    with tempfile.NamedTemporaryFile("r") as output:
        server.stdin.write(json.dumps([str(a) for a in (output.name, script, *arguments)]) + "\n")
        server.stdin.flush()
        status, text = server.stdout.readline().strip(), output.read()
    assert status == "0", f"{script} ended with {status or 'its server'}:\n{text[-3000:]}"
    return text


@functools.cache
def started():
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", __file__],
        env={
            **os.environ,
            "TF_USE_LEGACY_KERAS": "1",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    atexit.register(server.kill)  # a duplicate of its input, wherever left, would keep it waiting
    return server


def serve():
    """Runs the program that each line of the input names; answers with its exit status."""
    import tensorflow.compat.v1 as tf

    assert tf.layers.dense  # loads tf_keras
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            execute(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def execute(output, *command):
    """Body of a fork: the program, its output in a file."""
    file = os.open(output, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    warnings.simplefilter("ignore")
    sys.argv = list(command)
    status = 0
    try:
        runpy.run_path(command[0], run_name="__main__")
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve()
