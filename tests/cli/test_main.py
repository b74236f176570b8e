"""Whatever ends a command is one line and a status of its own; a broken console harms nothing."""

import io
import os
import subprocess
import sys
import tempfile

import pytest

from alexnet_tf1.batchnorm import doctor
from alexnet_tf1.cli import commands
from alexnet_tf1.cli import main as cli
from alexnet_tf1.system import terminal

PROGRAM = [sys.executable, "-m", "alexnet_tf1"]
PAGE = [*PROGRAM, "audit", "--explain", "BN101"]  # prints, and needs no TensorFlow
BAD = [*PROGRAM, "train", "--steps", "0"]


@pytest.mark.parametrize("arguments", [["--debug", "doctor", "x"], ["doctor", "x", "--debug"]])
def test_an_error_of_the_program_is_one_line_and_70(arguments, capsys, monkeypatch):
    def broken(checkpoint):
        raise KeyError("a\nb")

    monkeypatch.setattr(doctor, "examine_checkpoint", broken)
    assert cli.main([a for a in arguments if a != "--debug"]) == 70
    error = capsys.readouterr().err
    assert error.startswith(r"error: KeyError: 'a\nb' (")
    assert error.count("\n") == 1
    assert "--debug" in error
    assert cli.main(arguments) == 70
    shown, last = capsys.readouterr().err.split("error: KeyError")
    assert shown.startswith("Traceback (most recent call last):")
    assert "in broken" in shown
    assert last.count("\n") == 1


def test_too_little_memory_is_said(capsys, monkeypatch):
    def broken(checkpoint):
        raise MemoryError

    monkeypatch.setattr(doctor, "examine_checkpoint", broken)
    assert cli.main(["doctor", "x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the memory does not suffice; ")
    assert error.count("\n") == 1


def test_a_tensorflow_that_cannot_be_imported_is_said_by_every_command(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert cli.main(["doctor", "x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: TensorFlow cannot be imported (")
    assert error.count("\n") == 1


def test_tensorflow_s_chatter_needs_no_temporary_folder(monkeypatch):
    def full(*_, **__):
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    commands.import_tensorflow()


def finished(command, **streams):
    """The exit status, and what came on standard error where that is caught."""
    done = subprocess.run(command, check=False, text=True, **{"stderr": subprocess.PIPE, **streams})
    return done.returncode, done.stderr


def test_output_to_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        status, error = finished(PAGE, stdout=full)
    assert status == 2
    assert error.startswith("error: the output cannot be written (No space left on device)")
    assert error.count("\n") == 1


@pytest.fixture
def unread():
    """The end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


def test_output_that_nobody_reads_ends_the_command_silently(unread):
    assert finished(PAGE, stdout=unread) == (141, "")


def test_without_a_standard_error_the_status_is_left(unread):
    assert finished(BAD, stderr=unread)[0] == 2
    closed = ["sh", "-c", 'exec "$@" 2>&-', "sh", *BAD]
    assert finished(closed, stdout=subprocess.PIPE)[0] == 2


def test_a_closed_standard_output_is_no_error():
    status, error = finished(["sh", "-c", 'exec "$@" >&-', "sh", *PAGE])
    assert (status, error) == (0, "")


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    """Else what TensorFlow prints on standard error would go into that file."""
    program = (
        "import os, sys\n"
        "from alexnet_tf1.system.terminal import open_streams\n"
        "open_streams()\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        "os.write(1, b'out'), os.write(2, b'error'), print('out'), sys.stderr.write('error')\n"
    )
    closed = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-c", program]
    assert finished(closed)[0] == 0
    assert (tmp_path / "file").read_text() == ""


def test_what_a_console_cannot_print_is_spelt_out(monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", console)
    terminal.open_streams()
    terminal.show("\xfc")
    assert console.buffer.getvalue() == rb"\xfc" + b"\n"


def test_a_name_that_is_not_utf_8_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--run-dir", os.fsdecode(b"r\xff")])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(r"error: argument --run-dir: r\udcff is not UTF-8; ")
    assert error.count("\n") == 1
