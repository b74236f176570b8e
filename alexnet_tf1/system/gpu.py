"""Says in one line whether TensorFlow uses the NVIDIA GPU in the machine, and if not, why.

TensorFlow falls back to the CPU and tells the reason in its log only, which the commands keep off
the console. So the log is quoted. Nothing is guessed beside it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final, Literal, NamedTuple

MOST_QUOTED: Final = 3  # messages of the log, a sentence of each
LONGEST_SENTENCE: Final = 200  # characters
_LOOK: Final = "import tensorflow; tensorflow.config.list_physical_devices('GPU')"
# After "file.cc:line]", a message that names a GPU, CUDA or a library that cannot be opened.
_MESSAGE: Final = re.compile(r"\.(?:cc|h):\d+\] (.*(?:gpu|cuda|dlerror|dlopen).*)", re.IGNORECASE)


class Finding(NamedTuple):
    """A state, and the line that tells it to the user, with the remedy.

    Attributes:
      state: "used"; "none", no NVIDIA GPU in the machine; "hidden", by CUDA_VISIBLE_DEVICES;
        "not_used".
      line: for the user.
    """

    state: Literal["used", "none", "hidden", "not_used"]
    line: str

    @property
    def note(self) -> str | None:
        """The line where a GPU is not used, else None."""
        return None if self.state in ("used", "none") else self.line


def look() -> Finding:
    """Asks TensorFlow and the system for GPUs; imports TensorFlow.

    Where there is one that TensorFlow does not see, a second process imports TensorFlow and shows
    its log, which takes some seconds.
    """
    import tensorflow

    seen = len(tensorflow.config.list_physical_devices("GPU"))
    if seen:
        return Finding("used", f"TensorFlow sees {seen} GPU{'s' * (seen > 1)}")
    if not is_present():
        return Finding("none", "no NVIDIA GPU in this machine; the CPU is used")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and (not visible or visible.startswith("-")):
        why = f'CUDA_VISIBLE_DEVICES="{visible}" hides it; unset the variable'
        return Finding("hidden", f"the NVIDIA GPU is not used: {why}")
    cuda = tensorflow.sysconfig.get_build_info()["is_cuda_build"]
    why = quoted(_log()) if cuda else "this TensorFlow is built without CUDA"
    return not_used(why, tensorflow.__version__)


def not_used(why: str, version: str) -> Finding:
    """Puts the reason, as TensorFlow gives it, and the remedy into one line."""
    return Finding(
        "not_used",
        f"the NVIDIA GPU is not used: {why}; see that nvidia-smi lists the GPU, and "
        f'pip install "tensorflow[and-cuda]=={version}"',
    )


def quoted(log: str) -> str:
    """Quotes the first sentences of what a log of TensorFlow's says of GPUs, each once."""
    sentences = (found[1].split(". ")[0].rstrip(". ") for found in _MESSAGE.finditer(log))
    messages = [*dict.fromkeys(sentence[:LONGEST_SENTENCE] for sentence in sentences)]
    if not messages:
        return "TensorFlow's log does not say why"
    return f'TensorFlow\'s log says "{". ".join(messages[:MOST_QUOTED])}"'


def _log() -> str:
    """Returns the log of another process that looks for GPUs; empty where that fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _LOOK],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stderr


def is_present(root: Path = Path("/")) -> bool:
    """Looks for an NVIDIA GPU without TensorFlow, under the root of a file system.

    Returns:
      True also for a GPU without a driver, as the PCI bus lists it.
    """
    if any(root.glob("dev/nvidia[0-9]*")):
        return True
    if (root / "dev/dxg").exists() and (root / "usr/lib/wsl/lib/libcuda.so.1").exists():
        return True  # WSL2
    return any(
        _first_line(device / "class").startswith("0x03")  # a display; 0x04 is its sound
        and _first_line(device / "vendor") == "0x10de"
        for device in root.glob("sys/bus/pci/devices/*")
    )


def _first_line(path: Path) -> str:
    try:
        return path.read_text().partition("\n")[0]
    except OSError:
        return ""
