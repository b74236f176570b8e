"""Why TensorFlow does not use the NVIDIA GPU that is in the machine, in one line.

TensorFlow falls back to the CPU and, in its log, names the guide for installing. What it needs is
known: the driver's libcuda, and the libraries that it opens by name when a GPU is registered. Both
can be tried from here.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

State = Literal[
    "used", "none", "hidden", "cpu_build", "no_driver", "old_driver", "driver_fails",
    "missing_libraries", "not_searched", "unexplained",
]  # fmt: skip


class Driver(NamedTuple):
    """What the driver's library answers.

    Attributes:
      cuda: newest CUDA version it runs, as (major, minor); None where the library is missing.
      error: what cuInit gave, 0 if all is well.
    """

    cuda: tuple[int, int] | None
    error: int = 0


class Facts(NamedTuple):
    """What was found out about GPU, driver and TensorFlow.

    Attributes:
      present: whether an NVIDIA GPU is in the machine, whatever TensorFlow says.
      seen: how many GPUs TensorFlow sees.
      visible: CUDA_VISIBLE_DEVICES; None where it is not set.
      tensorflow: its version.
      cuda: version that this TensorFlow was built for, as "12.5.1"; None if built without.
      cudnn: the same, as "9".
      driver: what the driver answers.
      missing: file names of the libraries that cannot be opened.
      in_packages: whether some are only in pip's nvidia packages.
    """

    present: bool
    seen: int
    visible: str | None
    tensorflow: str
    cuda: str | None
    cudnn: str | None
    driver: Driver
    missing: tuple[str, ...]
    in_packages: bool


class Finding(NamedTuple):
    """A state, and the line that tells it to the user, with the remedy."""

    state: State
    line: str

    @property
    def note(self) -> str | None:
        """The line where a GPU lies idle, else None."""
        return None if self.state in ("used", "none") else self.line


NO_DEVICE: Final = 100  # CUDA_ERROR_NO_DEVICE: no GPU, or all hidden by CUDA_VISIBLE_DEVICES


def explain(facts: Facts) -> Finding:
    """Names the first thing that keeps TensorFlow from the GPU, and what to do.

    Args:
      facts: what was found out; nothing else decides.

    Returns:
      The finding.
    """
    if facts.seen:
        return Finding("used", f"TensorFlow sees {facts.seen} GPU{'s' * (facts.seen > 1)}")
    if not facts.present:
        return Finding("none", "no NVIDIA GPU in this machine; the CPU is used")
    return _hidden(facts) or _build(facts) or _driver(facts) or _libraries(facts)


def _idle(state: State, why: str) -> Finding:
    return Finding(state, f"the NVIDIA GPU is not used: {why}")


def _hidden(facts: Facts) -> Finding | None:
    """CUDA counts the devices named up to the first that does not exist."""
    if facts.visible is None:
        return None
    first = facts.visible.split(",")[0].strip()
    if first and not first.startswith("-") and facts.driver.error != NO_DEVICE:
        return None
    return _idle("hidden", f'CUDA_VISIBLE_DEVICES="{facts.visible}" hides it; unset the variable')


def _build(facts: Facts) -> Finding | None:
    if facts.cuda is not None:
        return None
    return _idle(
        "cpu_build",
        f"this TensorFlow {facts.tensorflow} is built without CUDA; on Linux or WSL2: "
        f"{_install(facts)}",
    )


def _install(facts: Facts) -> str:
    return f'pip install "tensorflow[and-cuda]=={facts.tensorflow}"'


def _driver(facts: Facts) -> Finding | None:
    has, error = facts.driver
    if has is None:
        return _idle(
            "no_driver",
            "the driver's libcuda.so.1 is missing; install the NVIDIA driver, or start the "
            "container with --gpus all",
        )
    needed = int(str(facts.cuda).split(".")[0])
    if has[0] < needed:
        return _idle(
            "old_driver",
            f"its driver runs CUDA {has[0]}.{has[1]} at most, and TensorFlow {facts.tensorflow} "
            f"needs CUDA {needed}; install a newer NVIDIA driver",
        )
    if error:
        return _idle(
            "driver_fails",
            f"its driver does not start (cuInit gives error {error}); see what nvidia-smi says, "
            "and restart the machine if the driver was just updated",
        )
    return None


def _libraries(facts: Facts) -> Finding:
    built = f"TensorFlow {facts.tensorflow} (CUDA {facts.cuda}, cuDNN {facts.cudnn})"
    if facts.missing:
        missing = ", ".join(facts.missing)
        return _idle("missing_libraries", f"{built} does not find {missing}; {_install(facts)}")
    if facts.in_packages and facts.tensorflow.startswith("2.16."):
        return _idle(
            "not_searched",  # https://github.com/tensorflow/tensorflow/issues/63362
            "TensorFlow 2.16 does not look into pip's nvidia packages, where its libraries are; "
            'pip install "tensorflow[and-cuda]>=2.17"',
        )
    return _idle(
        "unexplained",
        f"driver and libraries are there, and {built} does not take it; its reason is in the log "
        "of: TF_CPP_MIN_LOG_LEVEL=0 alexnet-tf1 env",
    )


def look() -> Finding:
    """Finds out and explains; imports TensorFlow. Tries libraries only where a GPU lies idle."""
    import tensorflow

    build = tensorflow.sysconfig.get_build_info()
    cuda = build.get("cuda_version") if build.get("is_cuda_build") else None
    cudnn = build.get("cudnn_version") if cuda else None
    seen = len(tensorflow.config.list_physical_devices("GPU"))
    present = bool(seen) or is_present()
    driver, in_packages = Driver(None), False
    lost: tuple[str, ...] = ()
    if present and not seen:
        driver = ask_driver()
        if cuda and cudnn:
            lost, in_packages = try_libraries(
                names(cuda, cudnn), Path(tensorflow.__file__).parents[1]
            )
    return explain(
        Facts(
            present=present,
            seen=seen,
            visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
            tensorflow=tensorflow.__version__,
            cuda=cuda,
            cudnn=cudnn,
            driver=driver,
            missing=lost,
            in_packages=in_packages,
        )
    )


def is_present(root: Path = Path("/"), smi: str | None = "nvidia-smi") -> bool:
    """Whether an NVIDIA GPU is in the machine: asks the system, not TensorFlow.

    Args:
      root: of the file system.
      smi: the driver's own tool, asked where the file system says nothing; None: not asked.

    Returns:
      True also for a GPU without a driver, as the PCI bus lists it.
    """
    if any(root.glob("proc/driver/nvidia/gpus/*")) or any(root.glob("dev/nvidia[0-9]*")):
        return True
    if (root / "dev/dxg").exists() and (root / "usr/lib/wsl/lib/libcuda.so.1").exists():
        return True  # WSL2
    for device in root.glob("sys/bus/pci/devices/*"):
        is_display = _first_line(device / "class").startswith("0x03")  # 0x04 is its sound
        if is_display and _first_line(device / "vendor") == "0x10de":
            return True
    return bool(smi and shutil.which(smi)) and _smi_lists_one(str(smi))


def _first_line(path: Path) -> str:
    try:
        return path.read_text().partition("\n")[0]
    except OSError:
        return ""


def _smi_lists_one(smi: str) -> bool:
    try:
        done = subprocess.run([smi, "-L"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.startswith("GPU ")


def ask_driver(load: Callable[[str], Any] = ctypes.CDLL) -> Driver:
    """Opens the driver's library, asks its version and starts it.

    Args:
      load: opens a library by name; raises OSError where there is none.
    """
    try:
        library = load("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return Driver(None)
    version = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    return Driver((version.value // 1000, version.value % 1000 // 10), library.cuInit(0))


# Suffixes of CUDA 12's libraries where they are not CUDA's own major version.
_OTHER_SUFFIX: Final = {"12": {"cufft": "11", "cusolver": "11"}}
_LIBRARIES: Final = ("cudart", "cublas", "cublasLt", "cufft", "cusolver", "cusparse")


def names(cuda: str, cudnn: str) -> list[str]:
    """The libraries without which TensorFlow registers no GPU (its TryDlopenCUDALibraries).

    Args:
      cuda: version as "12.5.1". Of one other than 12 only those are named that are sure to carry
        its major version.
      cudnn: version as "9".

    Returns:
      File names, as "libcudnn.so.9".
    """
    major = cuda.split(".")[0]
    certain = _LIBRARIES if major in _OTHER_SUFFIX else _LIBRARIES[:3]
    other = _OTHER_SUFFIX.get(major, {})
    found = [f"lib{name}.so.{other.get(name, major)}" for name in certain]
    return [*found, f"libcudnn.so.{cudnn.split('.')[0]}"]


def try_libraries(
    wanted: Iterable[str], packages: Path, load: Callable[[str], Any] = ctypes.CDLL
) -> tuple[tuple[str, ...], bool]:
    """Opens libraries by the system's search path, else from pip's nvidia packages.

    Args:
      wanted: file names.
      packages: the folder site-packages, whose nvidia/*/lib TensorFlow searches.
      load: opens a library by name or path; raises OSError where it cannot.

    Returns:
      The file names of those that cannot be opened, or of what they need in turn, each once; and
      whether some of the others are in pip's packages only.
    """
    lost: dict[str, None] = {}
    in_packages = False
    for name in wanted:
        places = [name, *map(str, sorted(packages.glob(f"nvidia/*/lib/{name}")))]
        failures = []
        for place in places:
            try:
                load(place)
            except OSError as error:
                failures.append(str(error))
            else:
                in_packages |= place != name
                break
        if len(failures) == len(places):
            needed = re.match(r"(\S+\.so[.\d]*): cannot open shared object file", failures[-1])
            lost[Path(needed[1]).name if needed else name] = None
    return tuple(lost), in_packages
