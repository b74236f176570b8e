"""What `launch` does with its workers, which are small programs here; one test has the real one."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from alexnet_tf1.cli import main as cli
from alexnet_tf1.distributed import launch
from alexnet_tf1.errors import UserError

PROGRAM = """
import json
import os
import signal
import sys
import time
config = json.loads(os.environ["TF_CONFIG"])
task = config["task"]["index"]
what = sys.argv[2]
print("ready", len(config["cluster"]["worker"]), flush=True)
print("a warning", file=sys.stderr)
if what == "one fails" and task == 1:
    sys.exit(3)
if what == "one is killed" and task == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if what == "none stops":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if task == 1:
        sys.exit(4)
if what == "ends with its launcher":
    from alexnet_tf1.distributed.launch import end_with_launcher

    end_with_launcher()
    print("pid", os.getpid(), flush=True)
if what == "signals":
    got = []
    signal.signal(signal.SIGINT, lambda *_: got.append(1))
    print("listening", flush=True)
    while not got:
        time.sleep(0.01)
    time.sleep(0.3)  # for a second one, which must not come
    print("signals:", len(got), flush=True)
    sys.exit(130)
if what != "all end":
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setattr(launch, "PATIENCE_S", 0.3)
    return lambda what: launch.launch(2, ["train", what], [sys.executable, str(program)])


def test_output_has_the_worker_s_name_on_the_stream_it_came_from(run, capfd):
    assert run("all end") == 0
    out, error = capfd.readouterr()
    assert sorted(out.splitlines()) == ["[worker 0] ready 2", "[worker 1] ready 2"]
    assert sorted(error.splitlines()) == ["[worker 0] a warning", "[worker 1] a warning"]


@pytest.mark.parametrize(
    ("what", "status"), [("one fails", 3), ("one is killed", 137), ("none stops", 4)]
)
def test_all_stop_when_one_fails_with_its_status(what, status, run):
    since, before = time.monotonic(), signal.getsignal(signal.SIGINT)
    assert run(what) == status
    assert time.monotonic() - since < 10
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_is_passed_on_once(run, capfd, monkeypatch):
    lines = []
    show = launch._show

    def interrupt():
        while sum("listening" in line for line in lines) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    class Noting:
        def __init__(self, console):
            self.console = console

        def write(self, text):
            lines.append(text)
            self.console.write(text)

        def flush(self):
            self.console.flush()

    monkeypatch.setattr(
        launch,
        "_show",
        lambda task, pipe, console, unread: show(task, pipe, Noting(console), unread),
    )
    thread = threading.Thread(target=interrupt)
    thread.start()
    assert run("signals") == 130
    thread.join()
    assert capfd.readouterr().out.count("signals: 1") == 2


def test_the_command_starts_train_as_every_worker(capfd, monkeypatch):
    monkeypatch.chdir(os.path.dirname(os.path.dirname(launch.__file__)))
    assert cli.main(["launch", "--workers", "2", "--", "train", "--steps", "0"]) == 2
    error = sorted(capfd.readouterr().err.splitlines())
    said = "error: --steps 0 is too small; use at least 1"
    assert error == [f"[worker 0] {said}", f"[worker 1] {said}"]
    assert json.loads(launch.environment_of(0, ["a:1", "b:2"])["TF_CONFIG"])["task"]["index"] == 0


def test_a_hang_up_stops_the_workers(run):
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGHUP)).start()
    since = time.monotonic()
    assert run("all wait") == 143
    assert time.monotonic() - since < 10


def test_the_workers_stop_where_nobody_reads(run, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        since = time.monotonic()
        assert run("all wait") == 141
        monkeypatch.undo()
    assert time.monotonic() - since < 10


def test_where_not_all_can_be_started_none_is_left(run, monkeypatch):
    started = []

    def start(*given):
        if started:
            raise OSError(24, "Too many open files")
        started.append(real(*given))
        return started[0]

    real = launch._start
    monkeypatch.setattr(launch, "_start", start)
    with pytest.raises(UserError, match=r"--workers 2 .*Too many open files.* [(]ulimit -n"):
        run("all wait")
    assert started[0].returncode == -signal.SIGKILL


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's own way")
def test_the_workers_end_with_a_launcher_that_is_killed(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    given = ["train", "ends with its launcher"], [sys.executable, str(tmp_path / "program.py")]
    code = f"from alexnet_tf1.distributed import launch; launch.launch(2, *{given!r})"
    launcher = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pids = []
    while len(pids) < 2:
        line = launcher.stdout.readline()
        assert line, "the launcher ended by itself"
        if "pid" in line.split():
            pids.append(int(line.split()[-1]))
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    deadline = time.monotonic() + 10
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid):
    """Tells whether the process is there and no zombie, which nobody here can wait for."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
