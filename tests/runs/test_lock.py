"""One writer a run folder: who is refused, and what becomes of a dead holder's lock."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alexnet_tf1.errors import UserError
from alexnet_tf1.runs.folder import LOCK
from alexnet_tf1.runs.lock import RunLock

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from alexnet_tf1.runs.lock import RunLock
with RunLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
CONTENDER = """
import os
import sys
from alexnet_tf1.runs import lock
from alexnet_tf1.errors import UserError
held = 0
while held < 200:
    try:
        with lock.RunLock(sys.argv[1]):
            os.close(os.open(sys.argv[1] + "/alone", os.O_CREAT | os.O_EXCL))
            os.remove(sys.argv[1] + "/alone")
            held += 1
    except UserError:
        pass
"""


def start(script: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A second process that has the lock."""
    with start(HOLDER, folder) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_says_who_holds_it_and_goes_with_it(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_goes_after_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunLock(tmp_path):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_is_refused_by_pid(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        before = (tmp_path / LOCK).read_text()
        with (
            pytest.raises(UserError, match=rf"{tmp_path} .*process {process.pid};.*stop it"),
            RunLock(tmp_path),
        ):
            pass
        assert (tmp_path / LOCK).read_text() == before
        process.communicate("")  # it ends by itself
        with RunLock(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == process.pid  # it left that
        with RunLock(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_stale_lock_that_names_a_living_process_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(json.dumps({"pid": os.getppid(), "host": "x" * 100}))
    with RunLock(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("text", ["", "{", "[" * 4096, '{"pid": "1"}', '{"pid": true}', "\xff"])
def test_what_a_lock_file_says_is_only_data(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK).write_bytes(text.encode("latin1"))
    with RunLock(tmp_path):
        (tmp_path / LOCK).write_bytes(text.encode("latin1"))
        with pytest.raises(UserError, match="written by another process;"), RunLock(tmp_path):
            pass


def test_a_holder_elsewhere_is_named_with_its_host(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        (tmp_path / LOCK).write_text(json.dumps({"pid": 7, "host": "far.example"}))
        with pytest.raises(UserError, match=r"process 7 on far\.example;"), RunLock(tmp_path):
            pass


def test_twice_in_one_process(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    with lock:
        for again in (RunLock(tmp_path), lock):
            with pytest.raises(UserError, match=rf"in this process \({os.getpid()}\)"), again:
                pass
        # A refusal neither unlocks nor removes what the first one holds.
        with pytest.raises(UserError, match="in this process"), RunLock(tmp_path):
            pass
    with lock:
        pass


def test_two_folders_of_one_process(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    with RunLock(one), RunLock(two):
        pass
    with RunLock(one):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_what_a_link_leads_to_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / LOCK).symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="lock cannot be locked"), RunLock(tmp_path):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize(
    ("name", "link"),
    [
        (LOCK, os.link),
        ("metrics.jsonl", os.link),
        ("metrics.jsonl", os.symlink),
        ("config.json", os.symlink),
        ("result.json", os.symlink),
        ("data.json", os.symlink),
        ("checkpoints", os.symlink),
    ],
)
def test_a_run_whose_files_are_others_is_refused(
    tmp_path: Path, name: str, link: Callable[..., None]
) -> None:
    mine, run = tmp_path / "mine", tmp_path / "run"
    run.mkdir()
    mine.write_text("mine")
    if name == "checkpoints":
        mine.unlink()
        mine.mkdir()
    link(mine, run / name)
    with pytest.raises(UserError, match=rf"{name} cannot be locked or written: it is a link"):
        RunLock(run).__enter__()
    assert mine.is_dir() or mine.read_text() == "mine"
    assert [path.name for path in run.iterdir()] == [name]


def test_a_run_under_a_linked_name_is_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "latest").symlink_to("run")
    with (
        RunLock(tmp_path / "latest"),
        pytest.raises(UserError, match="already open"),
        RunLock(tmp_path / "run"),
    ):
        pass


def test_a_removed_lock_file_lets_no_second_writer_in(tmp_path: Path) -> None:
    with holder(tmp_path):
        (tmp_path / LOCK).unlink()
        with pytest.raises(UserError, match="written by another process"), RunLock(tmp_path):
            pass


def test_a_folder_in_the_lock_s_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(UserError, match="lock cannot be locked"), RunLock(tmp_path):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="has no flock")
def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with pytest.raises(UserError, match=r"Operation not supported.*can be written and"):
        RunLock(tmp_path).__enter__()


def test_never_two_at_a_time(tmp_path: Path) -> None:
    """Four processes take and leave the lock 800 times; a second one inside would stumble."""
    deadline = time.monotonic() + 60
    processes = [start(CONTENDER, tmp_path) for _ in range(4)]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=deadline - time.monotonic())
            assert (process.returncode, errors) == (0, "")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert list(tmp_path.iterdir()) == []
