"""What the doctor accepts as a checkpoint, and that nothing else gets further than one line."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from support.crc import crc32c
from support.saved import layer, save

from alexnet_tf1.batchnorm.doctor import examine_checkpoint
from alexnet_tf1.checkpoint import find, pointer
from alexnet_tf1.checkpoint import reader as checkpoint_files
from alexnet_tf1.errors import UserError

NOISE = np.random.RandomState(0).bytes(5000)
DATA = "model.ckpt-20.data-00000-of-00001"


@pytest.fixture
def folder(tmp_path):
    """A folder with two checkpoints: step 10, healthy, and 20, the newest, with a fault."""
    folder = tmp_path / "run"
    folder.mkdir()
    save(folder / "model.ckpt", layer("bn"), global_step=10)
    save(folder / "model.ckpt", layer("bn", variance=[-1, 1, 1]), global_step=20)
    return folder


def refused(path):
    with pytest.raises(UserError) as error:
        examine_checkpoint(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path).split(".index")[0].split(".data")[0] in message
    return message


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("", 20),
        ("checkpoint", 20),
        ("model.ckpt-10", 10),
        ("model.ckpt-20", 20),
        ("model.ckpt-10.index", 10),
        ("model.ckpt-10.data-00000-of-00001", 10),
    ],
)
def test_every_way_to_name_a_checkpoint(folder, name, step, monkeypatch):
    for path in (folder / name, str(folder / name)):
        report = examine_checkpoint(path)
        assert report.checkpoint == str(folder / f"model.ckpt-{step}")
        assert len(report.faults) == (step == 20)
    monkeypatch.chdir(folder)
    assert examine_checkpoint(name or ".").checkpoint.endswith(f"model.ckpt-{step}")


def test_a_folder_that_was_moved_or_copied(folder):
    """The state file keeps the old absolute path; what lies in the folder answers."""
    assert f'"{folder}/model.ckpt-20"' in (folder / "checkpoint").read_text()
    copy = shutil.copytree(folder, folder.parent / "copy")
    assert examine_checkpoint(copy).checkpoint == str(copy / "model.ckpt-20")
    moved = folder.rename(folder.parent / "moved *? (1)")
    assert examine_checkpoint(moved).checkpoint == str(moved / "model.ckpt-20")
    moved = moved.rename(folder.parent / "moved [1]")
    assert "rename the folder" in refused(moved)  # Saver.restore cannot read this either


def test_a_run_folder_and_a_folder_without_a_state_file(folder, tmp_path):
    folder.rename(tmp_path / "checkpoints")
    assert examine_checkpoint(tmp_path).checkpoint.endswith("checkpoints/model.ckpt-20")
    (tmp_path / "checkpoints" / "checkpoint").unlink()
    assert examine_checkpoint(tmp_path).checkpoint.endswith("checkpoints/model.ckpt-20")
    (tmp_path / "checkpoints" / "model.ckpt-20.index").unlink()
    assert examine_checkpoint(tmp_path / "checkpoints").checkpoint.endswith("model.ckpt-10")


def test_a_saved_model(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("bn/moving_mean", [3], initializer=tf.zeros_initializer())
        tf.get_variable("bn/moving_variance", [3], initializer=tf.ones_initializer())
        session.run(tf.global_variables_initializer())
        builder = tf.saved_model.Builder(str(tmp_path / "export"))
        builder.add_meta_graph_and_variables(session, ["serve"])
        builder.save()
    for path in ("export", "export/saved_model.pb", "export/variables/variables"):
        report = examine_checkpoint(tmp_path / path)
        assert [fault.rule for fault in report.faults] == ["CK101"]


def test_the_single_file_format(tmp_path):
    path = save(tmp_path / "old[1].ckpt", layer("bn", variance=[-1, 1, 1]), version=1)
    assert Path(path).is_file()
    assert [fault.rule for fault in examine_checkpoint(path).faults] == ["CK103"]
    damaged = bytearray(Path(path).read_bytes())
    damaged[100] ^= 1
    Path(path).write_bytes(damaged)
    refused(path)


def test_partitioned_statistics(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope("bn", partitioner=tf.fixed_size_partitioner(3)):
            tf.get_variable("moving_mean", [7], initializer=tf.zeros_initializer())
            tf.get_variable("moving_variance", [7], initializer=tf.ones_initializer())
        session.run(tf.global_variables_initializer())
        report = examine_checkpoint(tf.train.Saver().save(session, str(tmp_path / "m")))
    assert [(fault.rule, fault.layer) for fault in report.faults] == [("CK101", "bn")]
    assert report.layers[0].statistics[0].shape == (7,)


def test_only_what_is_needed_is_read(folder, monkeypatch):
    read = []
    original = checkpoint_files.Checkpoint.read
    monkeypatch.setattr(
        checkpoint_files.Checkpoint, "read", lambda self, n: read.append(n) or original(self, n)
    )
    values = layer("bn") | {"conv1/kernel": np.ones([3, 3, 3, 3]), "global_step": np.int64(7)}
    examine_checkpoint(save(folder / "large", values))
    assert sorted(read) == ["bn/moving_mean", "bn/moving_variance", "global_step"]


def test_what_is_not_there(folder, tmp_path):
    assert "no such checkpoint" in refused(tmp_path / "nothing")
    assert "no such checkpoint" in refused(folder / "model.ckpt-30")
    assert "no checkpoint in it" in refused(tmp_path)
    (folder / "model.ckpt-20.index").unlink()
    assert find.resolve(folder) == str(folder / "model.ckpt-10")
    (folder / "model.ckpt-10.index").unlink()
    assert "model.ckpt-20 is not there" in refused(folder)
    assert "model.ckpt-20.index is missing" in refused(folder / DATA)


@pytest.mark.parametrize("content", [b"", b"\n", b"hello\n" * 500, NOISE, b"\0" * 99], ids=len)
@pytest.mark.parametrize("name", ["file", "file.index", "model.ckpt-20.index", DATA])
def test_files_of_another_kind(folder, name, content):
    (folder / name).write_bytes(content)
    refused(folder / name)


def test_every_truncation_of_the_index(folder):
    index = folder / "model.ckpt-20.index"
    whole = index.read_bytes()
    for length in range(0, len(whole), 7):
        index.write_bytes(whole[:length])
        refused(index)


def test_damaged_data(folder):
    data = folder / DATA
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    assert "data file 0 is truncated" in refused(folder)
    data.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])  # in beta, which is not read
    assert [fault.rule for fault in examine_checkpoint(folder).faults] == ["CK103"]
    data.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "damaged, bn/moving_variance cannot be read: " in refused(folder)


def test_an_index_without_data_answers_what_names_can(folder):
    (folder / DATA).unlink()
    report = examine_checkpoint(folder)
    assert report.faults == []
    assert [layer.name for layer in report.layers] == ["bn"]
    (note,) = report.notes
    assert DATA in note
    assert "CK101, CK103 and CK104 were not checked" in note
    save(folder / "bare", layer("batch_normalization", mean=None, variance=None))
    (folder / "bare.data-00000-of-00001").unlink()
    assert [fault.rule for fault in examine_checkpoint(folder / "bare").faults] == ["CK102"]


def test_a_prefix_that_is_also_a_folders_name(folder, tmp_path):
    shutil.copytree(folder, folder / "model.ckpt-10")
    assert examine_checkpoint(folder / "model.ckpt-10").checkpoint == str(folder / "model.ckpt-10")


@pytest.mark.parametrize("name", ["model.ckpt-20.index", DATA, "model.v1"])
def test_a_git_lfs_pointer_is_called_one(folder, name):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
    (folder / name).write_text(pointer)
    path = folder / name if name == "model.v1" else folder
    assert "is a Git LFS pointer" in refused(path)


@pytest.mark.parametrize("ending", ["os.kill(os.getpid(), 6)", "os._exit(3)"])
def test_whatever_happens_to_a_v1_reader_ends_in_one_line(tmp_path, monkeypatch, ending):
    path = save(tmp_path / "old.ckpt", layer("bn"), version=1)
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, sys\nif 'alexnet_tf1.checkpoint.v1' in sys.orig_argv:\n    {ending}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    message = refused(path)
    assert "not a checkpoint, or damaged" in message


STATES = {
    "empty": b"",
    "short": b'model_checkpoint_path: "model.ck',
    "zeroed": bytes(80),
    "not UTF-8": b"\xff",
    "an escape that is not": b'model_checkpoint_path: "\\xff"',
    "no newest": b'all_model_checkpoint_paths: "model.ckpt-10"',
    "gone": b'model_checkpoint_path: "model.ckpt-30"',
    "no name": b'model_checkpoint_path: "\\000"',
    "deep": b"a {" * 5_000,
    "huge": b'model_checkpoint_path: "model.ckpt-10"' + b" " * find.MAX_STATE_BYTES,
}


@pytest.mark.parametrize("content", STATES.values(), ids=STATES)
def test_a_state_file_of_no_use_is_passed_over(folder, content):
    (folder / "checkpoint").write_bytes(content)
    assert find.resolve(folder) == str(folder / "model.ckpt-20")


def test_a_pipe_for_a_state_file_is_passed_over(folder):
    (folder / "checkpoint").unlink()
    os.mkfifo(folder / "checkpoint")
    assert find.resolve(folder) == str(folder / "model.ckpt-20")


def test_names_without_an_order_are_not_guessed_at(folder):
    (folder / "checkpoint").write_text("")
    for name, is_refused in (("model.ckpt-9-recalibrated-2", False), ("best", True)):
        shutil.copy(folder / "model.ckpt-10.index", folder / f"{name}.index")
        assert not is_refused or "4 checkpoints and no `checkpoint` file" in refused(folder)
    assert [find.by_names(folder.parent), find.by_names(folder / "none")] == [[], []]


def test_no_permission(folder, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pointer, "open_regular", denied)  # root may read whatever chmod says
    assert "Permission denied" in refused(folder / "model.ckpt-20")


def test_a_forged_index_does_not_end_the_process(tmp_path):
    """With its checksum made right again, TensorFlow's reader aborts on a third of these."""
    good = save(tmp_path / "good", layer("bn"))
    index = Path(f"{good}.index").read_bytes()
    end = _block_end(index)
    random = np.random.RandomState(0)
    for number in range(40):
        forged = bytearray(index)
        if number == 0:  # the last entry's dtype, 1 for float32, becomes a reference's
            forged[index.rindex(b"\x08\x01\x12", 0, end) + 1] = 110
        else:
            forged[random.randint(20, end)] = random.randint(256)
        crc = crc32c(forged[: end + 1])
        masked = ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF
        forged[end + 1 : end + 5] = struct.pack("<I", masked)
        (tmp_path / f"{number}.index").write_bytes(forged)
        shutil.copy(f"{good}.data-00000-of-00001", tmp_path / f"{number}.data-00000-of-00001")
    script = (
        "import sys\n"
        "from alexnet_tf1.batchnorm.doctor import examine_checkpoint\n"
        "from alexnet_tf1.errors import UserError\n"
        "for number in range(40):\n"
        "    try:\n"
        "        examine_checkpoint(f'{sys.argv[1]}/{number}')\n"
        "    except UserError as error:\n"
        "        print(error)\n"
    )
    package = str(Path(examine_checkpoint.__globals__["__file__"]).parents[2])
    process = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        env={**os.environ, "PYTHONPATH": package},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    assert 15 < len(process.stdout.splitlines()) <= 40


def _block_end(index):
    """The size of the one data block, from the offset of the metaindex after its trailer."""
    offset, shift = 0, 0
    for byte in index[-48:]:
        offset |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return offset - 5
    raise AssertionError(index)
