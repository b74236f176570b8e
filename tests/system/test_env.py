"""`env`, and the line that says why a GPU lies idle: each broken machine beside the right one."""

import ctypes
import json

import pytest
from support import mistakes
from support.cifar10_files import write_folder
from support.machines import RIGHT

from alexnet_tf1.cli import main as cli
from alexnet_tf1.data import cifar10
from alexnet_tf1.system import environment, gpu

CPU_ONLY = gpu.Driver(None)
BROKEN = [  # what is wrong, the state, what the line names and what it says to do
    ({"driver": CPU_ONLY}, "no_driver", ["libcuda.so.1", "install the NVIDIA driver"]),
    ({"driver": gpu.Driver((11, 4))}, "old_driver", ["CUDA 11.4", "needs CUDA 12", "newer"]),
    ({"driver": gpu.Driver((12, 8), 999)}, "driver_fails", ["error 999", "nvidia-smi"]),
    ({"cuda": None, "cudnn": None}, "cpu_build", ["without CUDA", '[and-cuda]==2.21.0"']),
    ({"missing": ("libcudnn.so.9",)}, "missing_libraries", ["libcudnn.so.9", "pip install"]),
    (
        {"missing": ("libcublas.so.12", "libcufft.so.11")},
        "missing_libraries",
        ["libcublas.so.12, libcufft.so.11", '[and-cuda]==2.21.0"'],
    ),
    ({"visible": ""}, "hidden", ['CUDA_VISIBLE_DEVICES=""', "unset"]),
    ({"visible": "-1"}, "hidden", ['CUDA_VISIBLE_DEVICES="-1"']),
    (
        {"visible": "7", "driver": gpu.Driver((12, 8), gpu.NO_DEVICE)},
        "hidden",
        ['CUDA_VISIBLE_DEVICES="7"'],
    ),
    ({"tensorflow": "2.16.1"}, "not_searched", ["2.16", ">=2.17"]),
    ({}, "unexplained", ["TF_CPP_MIN_LOG_LEVEL=0 alexnet-tf1 env"]),
]


@pytest.mark.parametrize(("wrong", "state", "parts"), BROKEN, ids=lambda value: str(value)[:40])
def test_each_broken_machine_has_its_line(wrong, state, parts):
    found = gpu.explain(RIGHT._replace(seen=0, **wrong))
    assert found.state == state
    assert found.note == found.line
    assert "\n" not in found.line
    assert found.line.startswith("the NVIDIA GPU is not used: ")
    for part in parts:
        assert part in found.line


@pytest.mark.parametrize("change", [{}, {"visible": "0"}, {"present": False, "seen": 0}])
def test_a_machine_in_order_and_one_without_a_gpu_have_nothing_to_note(change):
    found = gpu.explain(RIGHT._replace(**change))
    assert found.state == ("used" if RIGHT._replace(**change).seen else "none")
    assert found.note is None


def test_every_state_of_an_idle_gpu_is_told_apart():
    lines = {gpu.explain(RIGHT._replace(seen=0, **wrong)).line for wrong, _, _ in BROKEN}
    assert len(lines) == len(BROKEN)


def pci(root, vendor, kind):
    device = root / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")


@pytest.mark.parametrize(
    ("vendor", "kind", "present"),
    [
        ("0x10de", "0x030000", True),  # without a driver nothing but the bus knows of it
        ("0x10de", "0x030200", True),  # one without a display
        ("0x10de", "0x040300", False),  # its sound device, passed on alone
        ("0x1002", "0x030000", False),  # another maker's
    ],
)
def test_a_gpu_is_found_on_the_bus(vendor, kind, present, tmp_path):
    pci(tmp_path, vendor, kind)
    assert gpu.is_present(tmp_path, smi=None) is present


@pytest.mark.parametrize(
    ("files", "present"),
    [
        (["proc/driver/nvidia/gpus/0000:01:00.0/information"], True),
        (["dev/nvidia0"], True),
        (["dev/nvidia-uvm", "dev/nvidiactl"], False),
        (["dev/dxg", "usr/lib/wsl/lib/libcuda.so.1"], True),
        (["dev/dxg"], False),
        ([], False),
    ],
)
def test_a_gpu_is_found_by_its_driver_s_files(files, present, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert gpu.is_present(tmp_path, smi=None) is present


@pytest.mark.parametrize(("said", "present"), [("GPU 0: H100", True), ("No devices", False)])
def test_the_driver_s_tool_is_asked_last(said, present, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{said}'\n")
    tool.chmod(0o755)
    assert gpu.is_present(tmp_path / "root", smi=str(tool)) is present
    assert not gpu.is_present(tmp_path / "root", smi=str(tmp_path / "none"))


def test_the_libraries_of_cuda_12_by_name():
    assert gpu.names("12.5.1", "9") == [
        "libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12", "libcufft.so.11",
        "libcusolver.so.11", "libcusparse.so.12", "libcudnn.so.9",
    ]  # fmt: skip
    assert gpu.names("14.0", "10.1")[-1] == "libcudnn.so.10"


def test_libraries_are_tried_by_name_then_in_pip_s_packages(tmp_path):
    inside = tmp_path / "nvidia/cudnn/lib/libcudnn.so.9"
    inside.parent.mkdir(parents=True)
    inside.touch()

    def load(place):
        if place == "libcusparse.so.12":
            raise OSError("libnvJitLink.so.12: cannot open shared object file: No such file")
        if place not in ("libcudart.so.12", str(inside)):
            raise OSError(f"{place}: cannot open shared object file: No such file or directory")

    wanted = ["libcudart.so.12", "libcudnn.so.9", "libcublas.so.12", "libcusparse.so.12"]
    lost = ("libcublas.so.12", "libnvJitLink.so.12")
    assert gpu.try_libraries(wanted, tmp_path, load) == (lost, True)
    assert gpu.try_libraries(wanted[:1], tmp_path, load) == ((), False)


def test_libraries_are_really_opened(tmp_path):
    assert gpu.try_libraries(["libnowhere.so.3"], tmp_path) == (("libnowhere.so.3",), False)


def test_the_driver_is_asked_and_started():
    class Library:
        def __init__(self, error):
            self.error = error

        def cuDriverGetVersion(self, version):  # noqa: N802
            ctypes.cast(version, ctypes.POINTER(ctypes.c_int))[0] = 12080

        def cuInit(self, flags):  # noqa: N802
            return self.error

    def no_driver(name):
        raise OSError(name)

    assert gpu.ask_driver(lambda name: Library(0)) == ((12, 8), 0)
    assert gpu.ask_driver(lambda name: Library(999)) == ((12, 8), 999)
    assert gpu.ask_driver(no_driver) == (None, 0)


def run_env(capsys, *options):
    assert cli.main(["env", *options]) == 0
    out, error = capsys.readouterr()
    assert error == ""
    return out


def test_env_tells_versions_machine_and_data(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path))
    found = json.loads(run_env(capsys, "--json"))
    assert {"alexnet_tf1", "python", "tensorflow", "keras", "numpy"} <= set(found["versions"])
    assert "CPU:0" in found["devices"]
    assert found["data"]["folder"] == str(tmp_path)
    assert found["data"]["state"] == "not there"
    assert any(cifar10.ARCHIVE in line for line in found["to_do"])
    lines = run_env(capsys).splitlines()
    columns = {len(line) - len(line.partition(":")[2].lstrip()) for line in lines}
    assert len(columns) == 1  # the texts stand below each other
    assert {line.partition(":")[0] for line in lines} >= {"TensorFlow", "GPU", "data", "to do"}


def test_env_says_why_the_gpu_is_idle(capsys, monkeypatch):
    found = gpu.explain(RIGHT._replace(seen=0, missing=("libcudnn.so.9",)))
    monkeypatch.setattr(gpu, "look", lambda: found)
    lines = run_env(capsys).splitlines()
    assert next(line for line in lines if line.startswith("GPU:")).endswith(found.line)
    assert [line for line in lines if line.startswith("to do:") and "libcudnn.so.9" in line]


def test_env_says_that_tensorflow_cannot_be_imported(capsys, monkeypatch):
    def broken():
        raise ImportError("libtensorflow_cc.so.2: cannot open\nmore")

    monkeypatch.setattr("alexnet_tf1.cli.commands.import_tensorflow", broken)
    assert cli.main(["env"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: TensorFlow cannot be imported (libtensorflow_cc.so.2: cannot")
    assert error.count("\n") == 1


def test_the_data_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", mistakes.IMAGES)
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path / "a"))
    assert cifar10.whereabouts().state == "not there"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / cifar10.ARCHIVE).touch()
    assert "to be unpacked" in cifar10.whereabouts().state
    folder = tmp_path / "a" / cifar10.FOLDER
    write_folder(folder, mistakes.IMAGES)
    found = cifar10.whereabouts()
    assert (found.folder, found.verified, found.named_by) == (folder, False, "$CIFAR10_DIR")
    assert "not the published" in found.state
    monkeypatch.setattr(cifar10, "_is_published", lambda path, data: True)
    assert cifar10.whereabouts().verified
    (folder / "data_batch_3").unlink()
    found = cifar10.whereabouts()
    assert found.state == "damaged"
    assert "data_batch_3 is missing" in str(found.remedy)
    monkeypatch.setenv("CIFAR10_DIR", str(folder / "test_batch"))
    assert cifar10.whereabouts().state == "not a folder"


def test_the_processor_is_read_from_what_the_system_says(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx avx2 fma sse\n")
    assert environment.cpu_model(cpuinfo) == "Some CPU"
    assert environment.vectors(cpuinfo) == ["avx", "avx2", "fma"]
    assert environment.vectors(tmp_path / "none") == []
