"""Describes the machine that a run is on: device, memory, versions."""

import os
import platform
import sys

import numpy as np

import alexnet_tf1


def device() -> str:
    """Names the device that TensorFlow trains on: the first GPU, or the CPU and its cores."""
    import tensorflow

    gpus = tensorflow.config.list_physical_devices("GPU")
    if gpus:
        details = tensorflow.config.experimental.get_device_details(gpus[0])
        return f"GPU, {details.get('device_name', gpus[0].name)}"
    return f"CPU, {os.cpu_count()} cores"


def has_gpu() -> bool:
    """Tells whether TensorFlow sees a GPU."""
    return gpus() > 0


def gpus() -> int:
    """Counts the GPUs that TensorFlow sees."""
    import tensorflow

    return len(tensorflow.config.list_physical_devices("GPU"))


def peak_rss_mb() -> float | None:
    """Measures the largest resident memory of this process so far, in MB (10**6 bytes).

    None where the system does not tell (Windows).
    """
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # bytes; kibibytes


def versions() -> dict[str, str]:
    """Lists the versions that decide a run's bits."""
    import tensorflow

    return {
        "alexnet_tf1": alexnet_tf1.__version__,
        "tensorflow": tensorflow.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
