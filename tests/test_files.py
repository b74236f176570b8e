"""One reader of bounded files; one writer of whole files and folders."""

from __future__ import annotations

import functools
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alexnet_tf1 import files
from alexnet_tf1.errors import UserError

ROOT = Path(__file__).parents[1]
KILLED = """
import os, pathlib, sys
from alexnet_tf1 import files
files.os.replace = lambda *_: os._exit(9)
place = pathlib.Path(sys.argv[1])
if sys.argv[2] == "file":
    files.write_bytes(place, b"new")
with files.filled_aside(place):
    pass
"""


def fault(path: Path, most: int = 4) -> str:
    with pytest.raises(UserError) as caught:
        files.read_bytes(path, most, "mend it")
    text = str(caught.value)
    assert text.startswith(f"{path} ")
    assert text.endswith("; mend it")
    return text


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"four")
    assert files.read_bytes(path, 4, "mend it") == b"four"
    assert "more than the 3 bytes" in fault(path, 3)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "Not a regular file" in fault(tmp_path / "pipe")
    assert "is a folder" in fault(tmp_path)
    assert "is missing" in fault(tmp_path / "none")
    assert "cannot be read" in fault(tmp_path / ("a" * 5000))
    assert "cannot be read" in fault(tmp_path / "a\0b")


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    files.write_bytes(path, b"old")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(UserError, match=r"a cannot be written \(No space"):
            files.write_bytes(path, b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"old"}
    files.write_bytes(path, b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"new"}


def test_a_folder_is_filled_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "place"
    with pytest.raises(ZeroDivisionError), files.filled_aside(place) as filling:
        (filling / f"{1 / len(list(filling.iterdir()))}").touch()
    assert list(tmp_path.iterdir()) == []
    with files.filled_aside(place) as filling:
        (filling / "a").touch()
        assert not place.exists()
    assert [path.name for path in place.iterdir()] == ["a"]
    with pytest.raises(OSError), files.filled_aside(place):  # noqa: PT011 (whose number differs)
        pass
    assert list(tmp_path.iterdir()) == [place]


def test_what_is_written_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def note(kind: str, call: Callable[..., None], *arguments: Any) -> None:
        place = arguments[0] if kind != "fsync" else os.readlink(f"/proc/self/fd/{arguments[0]}")
        done.append(f"{kind} {Path(place).name.rpartition('.')[2]}")
        call(*arguments)

    for kind in ("fsync", "replace"):
        monkeypatch.setattr(os, kind, functools.partial(note, kind, getattr(os, kind)))
    here = f"fsync {tmp_path.name}"
    files.write_bytes(tmp_path / "a", b"new")
    assert done == ["fsync unfinished", "replace unfinished", here]
    done.clear()
    with files.filled_aside(tmp_path / "place") as filling:
        (filling / "one").mkdir()
        (filling / "one/two").touch()
    assert done == ["fsync two", "fsync one", "fsync filling", "replace filling", here]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_kill_left_goes_with_the_next_and_what_is_in_use_stays(
    tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "place"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(place), kind], cwd=ROOT)
    assert killed.returncode == 9
    (left,) = tmp_path.iterdir()
    mine = [tmp_path / ".place.original", tmp_path / ".places.abcdefgh.unfinished"]
    for path in mine:
        path.touch()
    (tmp_path / ".place.abcdefgh.unfinished").symlink_to(mine[0])
    with files.folder_aside(place) as used:
        files.write_bytes(place, b"new")
        assert used.exists()
        assert not left.exists()
    names = {*mine, place, tmp_path / ".place.abcdefgh.unfinished"}
    assert set(tmp_path.iterdir()) == names


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "a").symlink_to(tmp_path / "mine")
    os.link(tmp_path / "mine", tmp_path / "b")
    for name in "ab":
        files.write_bytes(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"
    assert (tmp_path / "mine").read_text() == "mine"


def test_folders_that_were_made_are_removed_again(tmp_path: Path) -> None:
    made = files.make_folders(tmp_path / "a" / "b")
    assert made == [tmp_path / "a" / "b", tmp_path / "a"]
    (tmp_path / "a" / "file").touch()
    files.remove_empty(made)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
    with pytest.raises(OSError):  # noqa: PT011
        files.make_folders(tmp_path / "a" / "file" / "c")
