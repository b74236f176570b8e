"""Collects what `env` prints: versions, machine, devices, data, and what to install."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from alexnet_tf1.data import cifar10
from alexnet_tf1.system import hardware

# What TensorFlow and oneDNN have kernels for, as /proc/cpuinfo spells it.
_VECTOR_FLAGS = (
    "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Collects what `env --json` prints: versions, machine, devices, data; imports TensorFlow."""
    import tensorflow

    from alexnet_tf1.system import gpu

    build = tensorflow.sysconfig.get_build_info()
    finding = gpu.look()
    data = cifar10.whereabouts()
    return {
        "versions": hardware.versions() | {"keras": importlib.metadata.version("keras")},
        "system": platform.platform(),
        "cpu": {"model": cpu_model(), "cores": os.cpu_count(), "vector_instructions": vectors()},
        "memory_gb": memory_gb(),
        "tensorflow_built_for": {
            "cuda": build.get("cuda_version") if build.get("is_cuda_build") else None,
            "cudnn": build.get("cudnn_version") if build.get("is_cuda_build") else None,
        },
        "devices": [
            device.name.removeprefix("/physical_device:")
            for device in tensorflow.config.list_physical_devices()
        ],
        "gpu": {"state": finding.state, "line": finding.line},
        "data": data._asdict() | {"folder": str(data.folder)},
        "to_do": [line for line in (finding.note, data.remedy) if line],
    }


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Reads the processor's name."""
    return _field(cpuinfo, "model name") or platform.processor() or platform.machine()


def vectors(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Lists the processor's vector instructions; none where the system does not tell."""
    flags = _field(cpuinfo, "flags").split()
    return [flag for flag in _VECTOR_FLAGS if flag in flags]


def _field(cpuinfo: Path, name: str) -> str:
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def memory_gb() -> float | None:
    """Reads the machine's memory in GB (10**9 bytes); None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None
