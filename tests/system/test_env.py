"""`env`, and the line that says why a GPU is not used, beside a machine where it is."""

import glob
import json
import sys

import pytest
from support import mistakes
from support.cifar10_files import write_folder

from alexnet_tf1.cli import main as cli
from alexnet_tf1.data import cifar10
from alexnet_tf1.system import environment, gpu

# What TensorFlow 2.21 wrote: without a driver; and beside an H200 whose libraries were hidden, but
# for the first line's time stamp, which was not kept.
NO_DRIVER = """WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795663397.860453   16143 port.cc:153] oneDNN custom operations are on. You may see
I0000 00:00:1795663397.870560   16143 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not be used.
I0000 00:00:1795663397.998800   16143 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not be used.
E0000 00:00:1795663400.154366   16143 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)
"""  # noqa: E501
NO_LIBRARIES = """I0000 00:00:1795699255.120461    9623 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not be used.
E0000 00:00:1795699257.046240    9623 cuda_executor.cc:1737] INTERNAL: CUDA Runtime error: Failed call to cudaGetRuntimeVersion: Error loading CUDA libraries. GPU will not be used.: Error loading CUDA libraries. GPU will not be used.
W0000 00:00:1795699257.197570    9623 gpu_device.cc:2365] Cannot dlopen some GPU libraries. Please make sure the missing libraries mentioned above are installed properly if you would like to use GPU. Follow the guide at https://www.tensorflow.org/install/gpu for how to download and setup the required libraries for your platform.
Skipping registering GPU devices...
"""  # noqa: E501


def test_the_log_of_tensorflow_is_quoted():
    no_driver = "Could not find cuda drivers on your machine, GPU will not be used"
    assert gpu.quoted(NO_DRIVER) == (
        f"TensorFlow's log says \"{no_driver}. failed call to cuInit: INTERNAL: CUDA error: Failed "
        'call to cuInit: UNKNOWN ERROR (303)"'
    )
    assert gpu.quoted(NO_LIBRARIES) == (
        f"TensorFlow's log says \"{no_driver}. INTERNAL: CUDA Runtime error: Failed call to "
        'cudaGetRuntimeVersion: Error loading CUDA libraries. Cannot dlopen some GPU libraries"'
    )
    assert gpu.quoted("x.cc:1] oneDNN is on") == "TensorFlow's log does not say why"
    many = "".join(f"x.cc:1] GPU {number}{'!' * 5000}\n" for number in range(9))
    assert gpu.quoted(many).count("GPU") == 3
    assert len(gpu.quoted(many)) < 700


@pytest.fixture
def machine(monkeypatch):
    """Makes up what TensorFlow sees, is built for and logs, and whether a GPU is there."""
    import tensorflow

    def make(seen=0, *, present=True, cuda=True, visible=None, log=NO_LIBRARIES):
        monkeypatch.setattr(
            tensorflow.config, "list_physical_devices", lambda kind: ["GPU:0"] * seen
        )
        monkeypatch.setattr(tensorflow.sysconfig, "get_build_info", lambda: {"is_cuda_build": cuda})
        monkeypatch.setattr(gpu, "is_present", lambda: present)
        monkeypatch.setattr(gpu, "_log", lambda: log)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return gpu.look()

    return make


@pytest.mark.parametrize(
    ("made", "state", "part"),
    [
        ({}, "not_used", 'Cannot dlopen some GPU libraries"; see that nvidia-smi'),
        ({"log": ""}, "not_used", "log does not say why"),
        ({"cuda": False}, "not_used", "built without CUDA"),
        ({"visible": "0"}, "not_used", "Cannot dlopen"),
        ({"visible": ""}, "hidden", 'CUDA_VISIBLE_DEVICES=""'),
        ({"visible": "-1"}, "hidden", "unset the variable"),
    ],
)
def test_a_gpu_that_is_not_used_has_its_line(machine, made, state, part):
    found = machine(**made)
    assert found.state == state
    assert found.note == found.line
    assert found.line.startswith("the NVIDIA GPU is not used: ")
    assert part in found.line
    assert "\n" not in found.line
    assert ("pip install" in found.line) == (state == "not_used")


@pytest.mark.parametrize(("seen", "present"), [(1, True), (0, False)])
def test_a_machine_in_order_and_one_without_a_gpu_have_nothing_to_note(machine, seen, present):
    found = machine(seen, present=present)
    assert found.state == ("used" if seen else "none")
    assert found.note is None


@pytest.mark.skipif(bool(glob.glob("/dev/nvidia[0-9]*")), reason="TensorFlow may use it")
def test_tensorflow_s_own_log_is_read():
    """Where there is no GPU, it says so: the messages still have the form that is looked for."""
    import tensorflow

    if not tensorflow.sysconfig.get_build_info()["is_cuda_build"]:
        pytest.skip("this TensorFlow is built without CUDA")
    assert "cuda" in gpu.quoted(gpu._log()).lower()


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
    assert gpu.is_present(tmp_path) is present


@pytest.mark.parametrize(
    ("files", "present"),
    [
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
    assert gpu.is_present(tmp_path) is present


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
    assert any(cifar10.ARCHIVE in line and "downloads" not in line for line in found["to_do"])
    lines = run_env(capsys).splitlines()
    columns = {len(line) - len(line.partition(":")[2].lstrip()) for line in lines}
    assert len(columns) == 1  # the texts stand below each other
    assert {line.partition(":")[0] for line in lines} >= {"TensorFlow", "GPU", "data", "to do"}


def test_env_says_why_the_gpu_is_idle(capsys, monkeypatch):
    found = gpu.not_used("no libcudnn.so.9", "2.21.0")
    monkeypatch.setattr(gpu, "look", lambda: found)
    lines = run_env(capsys).splitlines()
    assert next(line for line in lines if line.startswith("GPU:")).endswith(found.line)
    assert [line for line in lines if line.startswith("to do:") and "libcudnn.so.9" in line]


def test_env_says_that_tensorflow_cannot_be_imported(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert cli.main(["env"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: TensorFlow cannot be imported (import of tensorflow halted")
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
    assert "not the official" in found.state
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
