"""What `launch` does with its workers, which are small programs here; one test has the real one."""

import json
import os
import signal
import sys
import threading
import time

import pytest

from alexnet_tf1.cli import main as cli
from alexnet_tf1.distributed import launch

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
        launch, "_show", lambda task, pipe, console: show(task, pipe, Noting(console))
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
