"""Which checkpoint is whole, which is the newest such, and what a broken save leaves."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf

from alexnet_tf1.checkpoint import sstable
from alexnet_tf1.errors import UserError
from alexnet_tf1.runs.recovery import newest_sound, problem, sweep

STEPS = (5, 20, 100)  # by name, 100 would come first
INDEX, DATA, META = ".index", ".data-00000-of-00001", ".meta"
Folder = Callable[[], Path]


def save(folder: Path, *names: str) -> None:
    """Saves a little of each sort, each time with other values."""
    with tf.Graph().as_default(), tf.Session() as session:
        random = np.random.RandomState(0)
        kernel = tf.get_variable("conv/kernel", initializer=random.rand(3, 4).astype("f"))
        tf.get_variable("order", initializer=np.arange(5))
        tf.get_variable("state", initializer=np.array([b"text", b"", b"\xff\0"]), dtype=tf.string)
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(max_to_keep=None)
        for name in names:
            saver.save(session, str(folder / name))
            session.run(kernel.assign_add(tf.ones([3, 4])))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    folder.mkdir()
    save(folder, *(f"model.ckpt-{step}" for step in STEPS), "model.ckpt-100-recalibrated")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "checkpoints"))


def part(folder: Path, kind: str, step: int = 100) -> Path:
    return folder / f"model.ckpt-{step}{kind}"


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


# ---- problem -------------------------------------------------------------------------------


def test_whole(folder: Path) -> None:
    assert problem(str(part(folder, ""))) is None


def test_meta_is_not_needed(folder: Path) -> None:
    part(folder, META).unlink()
    assert problem(str(part(folder, ""))) is None


@pytest.mark.parametrize(
    ("kind", "damage", "says"),
    [
        (INDEX, Path.unlink, "model.ckpt-100.index is missing"),
        (INDEX, replace_by_folder, "not a file"),
        (INDEX, lambda path: cut(path, 0), "too short, 0 bytes"),
        (INDEX, lambda path: cut(path, 47), "too short, 47 bytes"),
        (INDEX, lambda path: cut(path, 100), "does not end as one does"),
        (INDEX, lambda path: path.write_bytes(bytes(300)), "does not end as one does"),
        (INDEX, lambda path: path.write_bytes(b" " + path.read_bytes()), "its index"),
        (DATA, Path.unlink, "model.ckpt-100.data-00000-of-00001 is missing"),
        (DATA, replace_by_folder, "data-00000-of-00001 cannot be read: Is a folder"),
        (DATA, lambda path: cut(path, 0), "data file 0 is truncated: 0 bytes"),
        (DATA, lambda path: cut(path, path.stat().st_size - 1), "data file 0 is truncated"),
        (DATA, lambda path: path.write_bytes(bytes(path.stat().st_size)), "conv/kernel cannot be"),
    ],
)
def test_damage_is_named(
    folder: Path, kind: str, damage: Callable[[Path], object], says: str
) -> None:
    damage(part(folder, kind))
    found = problem(str(part(folder, "")))
    assert found is not None
    assert says in found
    assert "\n" not in found


@pytest.mark.skipif(sys.platform == "win32", reason="has no named pipes in folders")
@pytest.mark.parametrize("kind", [INDEX, DATA])
def test_a_pipe_is_not_waited_for(folder: Path, kind: str) -> None:
    part(folder, kind).unlink()
    os.mkfifo(part(folder, kind))
    assert re.search("(?i)not a (regular )?file", str(problem(str(part(folder, "")))))


@pytest.mark.parametrize("kind", [INDEX, DATA])
def test_every_flipped_byte_is_found(folder: Path, kind: str) -> None:
    """Also those in the index that no restore reads: its padding, its second table of contents."""
    path = part(folder, kind)
    whole = path.read_bytes()
    bits = np.random.RandomState(0).randint(8, size=len(whole))
    missed = []
    for position, bit in enumerate(bits):
        flip(path, position, bit)
        if problem(str(part(folder, ""))) is None:
            missed.append(position)
        path.write_bytes(whole)
    assert len(whole) >= 100
    assert missed == []


def test_bytes_of_another_checkpoint(folder: Path) -> None:
    """As a kill leaves them that comes between data and index of a step saved anew."""
    shutil.copy(part(folder, DATA, 20), part(folder, DATA, 100))
    assert "conv/kernel" in str(problem(str(part(folder, ""))))


def test_an_index_of_several_blocks(tmp_path: Path) -> None:
    prefix = str(tmp_path / "large")
    random = np.random.RandomState(0)
    names = sorted(random.bytes(100).hex() for _ in range(2000))
    with tf2.device("CPU"):
        tf2.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=list(np.arange(float(len(names)))),
        )
    index = Path(f"{prefix}.index")
    assert problem(prefix) is None
    for share in (0.1, 0.9):
        position = int(share * index.stat().st_size)
        flip(index, position)
        assert "checksum" in str(problem(prefix))
        flip(index, position)
    cut(Path(f"{prefix}{DATA}"), 100)
    assert "truncated" in str(problem(prefix))


def test_a_path_that_tensorflow_cannot_read(folder: Path) -> None:
    odd = folder.rename(folder.with_name("run[1]"))
    with pytest.raises(UserError, match=r"run\[1\].*rename the folder"):
        problem(str(part(odd, "")))


def test_crc_is_castagnolis() -> None:
    """RFC 3720, B.4: 32 bytes of zeros have the CRC-32C 0x8A9136AA."""
    rotated = (0x8A9136AA >> 15 | 0x8A9136AA << 17) & 0xFFFFFFFF
    masked = ((rotated + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")
    sstable._check_block(bytes(32) + masked, 0, 31)
    with pytest.raises(sstable.DamagedError, match="checksum"):
        sstable._check_block(b"\1" + bytes(31) + masked, 0, 31)


# ---- newest_sound --------------------------------------------------------------------------


def test_newest_by_its_step(folder: Path) -> None:
    lines: list[str] = []
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-5"\n')
    (folder / "model.ckpt-700.index.tempstate123").write_bytes(b"")
    (folder / "model.ckpt-800-recalibrated.index").write_bytes(b"")
    (folder / "model.ckpt-900.index.orig").write_bytes(b"")
    assert newest_sound(folder, lines.append) == str(part(folder, ""))
    assert lines == []


def test_damaged_ones_are_announced_and_passed_over(folder: Path) -> None:
    lines: list[str] = []
    flip(part(folder, DATA, 100), 0)
    part(folder, DATA, 20).unlink()
    assert newest_sound(folder, lines.append) == str(part(folder, "", 5))
    assert len(lines) == 2
    assert "model.ckpt-100 is damaged (conv/kernel" in lines[0]
    assert "model.ckpt-20 is damaged (model.ckpt-20.data-00000-of-00001 is missing)" in lines[1]
    assert all(line.endswith("model.ckpt-5 is used instead") for line in lines)


def test_damaged_older_ones_are_nobodys_concern(folder: Path) -> None:
    lines: list[str] = []
    flip(part(folder, DATA, 20), 0)
    assert newest_sound(folder, lines.append) == str(part(folder, ""))
    assert lines == []


def test_none(tmp_path: Path) -> None:
    lines: list[str] = []
    assert newest_sound(tmp_path, lines.append) is None
    assert newest_sound(tmp_path / "missing", lines.append) is None
    assert lines == []


def test_a_first_save_cut_short_is_none(tmp_path: Path, folder: Path) -> None:
    lines: list[str] = []
    shutil.copy(part(folder, DATA), tmp_path)
    assert newest_sound(tmp_path, lines.append) is None
    assert len(lines) == 1
    assert "model.ckpt-100 was never finished (model.ckpt-100.index is missing)" in lines[0]


def test_all_damaged(folder: Path) -> None:
    lines: list[str] = []
    for step in STEPS:
        cut(part(folder, INDEX, step), 10)
    with pytest.raises(UserError, match=r"checkpoints holds no whole.*model\.ckpt-100: .*copy"):
        newest_sound(folder, lines.append)
    assert lines == []


def test_not_a_folder(folder: Path) -> None:
    with pytest.raises(UserError, match=r"model\.ckpt-5\.meta cannot be read"):
        newest_sound(part(folder, META, 5), print)


# ---- sweep ---------------------------------------------------------------------------------


def test_whole_damaged_and_foreign_stay(folder: Path) -> None:
    flip(part(folder, DATA, 20), 0)
    cut(part(folder, INDEX, 5), 0)
    part(folder, META, 5).unlink()
    for name in (
        "notes.txt",
        "notes.tempstate1",
        "mymodel.ckpt-1.index",
        "model.ckpt-7.data-00000-of-00001.orig",
        "model.ckpt-best.data-00000-of-00001",
        "checkpoint.tmp",
        ".hidden",
    ):
        (folder / name).write_text("mine")
    (folder / "model.ckpt-8.meta").mkdir()
    before = sorted(folder.iterdir())
    assert sweep(folder) == []
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("blocked", "left"), [(DATA, f"{DATA}.tempstate"), (INDEX, f"{INDEX}.tempstate")]
)
def test_what_saver_leaves_goes(folder: Path, blocked: str, left: str) -> None:
    """A folder in the way of a file ends the save where a kill may."""
    before = sorted(folder.iterdir())
    obstacle = folder / f"model.ckpt-300{blocked}"
    obstacle.mkdir()
    with contextlib.suppress(tf.errors.OpError):
        save(folder, "model.ckpt-300")
    obstacle.rmdir()
    remains = {path.name for path in folder.iterdir()} - {path.name for path in before}
    assert any(f"model.ckpt-300{left}" in name for name in remains)
    assert set(sweep(folder)) == remains
    assert sorted(folder.iterdir()) == before


def test_parts_of_no_use_go(folder: Path) -> None:
    before = sorted(folder.iterdir())
    state = f"checkpoint.tmp{'0af3' * 8}"
    names = {
        f"model.ckpt-1{DATA}",
        f"model.ckpt-2{META}",
        f"model.ckpt-3{INDEX}",
        f"model.ckpt-3{META}",
        f"model.ckpt-4-recalibrated{DATA}",
        f"model.ckpt-100{META}.tmp{'0af3' * 8}",
        "model.ckpt-6_temp",
        state,
    }
    (folder / "model.ckpt-6_temp").mkdir()
    (folder / "model.ckpt-6_temp" / "part-00000-of-00001.index").write_text("")
    for name in names - {"model.ckpt-6_temp"}:
        (folder / name).write_text("x")
    assert set(sweep(folder)) == names
    assert sorted(folder.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "part-1").write_text("mine")
    (folder / "model.ckpt-6_temp").symlink_to(mine)
    (folder / f"model.ckpt-7{DATA}").symlink_to(mine / "part-1")
    assert sweep(folder) == [f"model.ckpt-7{DATA}"]
    assert (mine / "part-1").read_text() == "mine"


def test_sweep_of_nothing(tmp_path: Path) -> None:
    assert sweep(tmp_path / "missing") == []
