"""One reader of bounded files; one writer of whole files and folders."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from alexnet_tf1 import files
from alexnet_tf1.errors import UserError


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


def test_folders_that_were_made_are_removed_again(tmp_path: Path) -> None:
    made = files.make_folders(tmp_path / "a" / "b")
    assert made == [tmp_path / "a" / "b", tmp_path / "a"]
    (tmp_path / "a" / "file").touch()
    files.remove_empty(made)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
    with pytest.raises(OSError):  # noqa: PT011
        files.make_folders(tmp_path / "a" / "file" / "c")
