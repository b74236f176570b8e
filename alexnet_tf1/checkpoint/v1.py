"""Reads a checkpoint of the first format, a single file, in a process of its own.

TensorFlow's reader of this format ends the process where it does not like what it reads, and its
file has no index that could be checked before. Run as a module this is that process:

    python -m alexnet_tf1.checkpoint.v1 PATTERN [NAME]

It writes an .npz to standard output: `header`, in JSON the dtype and shape of every variable, and
the names of the arrays that follow: of NAME alone, or of all that have less than two axes, which
moving statistics and counters are.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from alexnet_tf1.checkpoint.sstable import DamagedError

_PATIENCE = 300  # seconds


class Content(NamedTuple):
    """The findings of a process in a checkpoint."""

    variables: dict[str, tuple[str, tuple[int, ...]]]  # dtype and shape, by name
    arrays: dict[str, npt.NDArray[Any]]


def read(prefix: str, name: str | None = None) -> Content:
    """Has a process read a checkpoint.

    Args:
      prefix: the file.
      name: the variable to read; None: all of less than two axes.

    Raises:
      DamagedError: if the process did not come to its end, whatever ended it.
    """
    pattern = re.sub(r"([\[\]*?\\])", r"\\\1", prefix)  # TensorFlow takes a file pattern
    package = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    try:
        process = subprocess.run(
            [sys.executable, "-m", __name__, pattern, *([] if name is None else [name])],
            env={**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            check=False,
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise DamagedError(f"TensorFlow did not read it within {_PATIENCE} seconds") from None
    if process.returncode < 0:
        raise DamagedError(f"TensorFlow's reader was ended by signal {-process.returncode}")
    if process.returncode:
        lines = process.stderr.decode("utf-8", "replace").strip().splitlines()
        raise DamagedError(lines[-1] if lines else "TensorFlow cannot read it")
    with np.load(io.BytesIO(process.stdout)) as found:
        header = json.loads(bytes(found["header"]))
        arrays = {name: found[str(k)] for k, name in enumerate(header["arrays"])}
    variables = {name: (dtype, tuple(shape)) for name, dtype, shape in header["variables"]}
    return Content(variables, arrays)


def _main(pattern: str, *names: str) -> None:
    """Reads, and writes the .npz."""
    output = os.dup(1)
    os.dup2(2, 1)  # nothing that TensorFlow prints may get between
    import tensorflow.compat.v1 as tf

    reader = tf.train.NewCheckpointReader(pattern)
    dtypes, shapes = reader.get_variable_to_dtype_map(), reader.get_variable_to_shape_map()
    wanted = list(names) or [n for n in shapes if len(shapes[n]) < 2 and dtypes[n] != tf.string]
    arrays: dict[str, Any] = {}
    for k, name in enumerate(wanted):
        value = np.asarray(reader.get_tensor(name))
        arrays[str(k)] = value.astype(np.float32) if dtypes[name] == tf.bfloat16 else value
    variables = [[name, dtypes[name].name, shapes[name]] for name in sorted(shapes)]
    header = json.dumps({"variables": variables, "arrays": wanted}).encode()
    with os.fdopen(output, "wb") as file:
        np.savez(file, header=np.frombuffer(header, np.uint8), **arrays)


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except Exception as error:
        sys.exit(str(getattr(error, "message", error)).partition("\n")[0] or repr(error))
