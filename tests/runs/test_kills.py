"""Training processes killed at random moments and resumed: every variable as if nothing had been.

Every second kill comes during a save. `-m soak` tries more moments: 20, before a release.
"""

import os
import random
import shutil
import time

import numpy as np
import pytest
from support.forked import Command
from support.run_files import metrics, variables

OPTIONS = [
    "--dataset", "synthetic", "--batch-size", 4, "--log-every", 5, "--test-every", 15,
    "--test-batches", 10, "--checkpoint-every", 5,
]  # fmt: skip
RECIPE = ("--recipe", "quick", "--shift", "2")  # and with it --fast


@pytest.mark.parametrize(
    ("loop", "kills", "steps"),
    [
        pytest.param((), 2, 30, id="default"),
        pytest.param(RECIPE, 1, 30, id="recipe"),
        pytest.param((), 20, 90, id="default, long", marks=pytest.mark.soak),
        pytest.param(RECIPE, 8, 90, id="recipe, long", marks=pytest.mark.soak),
    ],
)
def test_kills_leave_no_trace(loop, kills, steps, tmp_path):
    whole, run, output = tmp_path / "whole", tmp_path / "run", tmp_path / "output"
    options = ["train", *OPTIONS, "--steps", steps, *loop, "--run-dir"]
    assert Command([*options, whole], output).end() == 0
    moments = random.Random(8)
    during_saves = killed = 0
    process = Command([*options, run], output)
    while killed < kills:
        process.wait_for("run folder:" if killed == 0 else "resumed after step")
        if killed % 2 == 0:
            during_saves += wait_for_a_save(process, run)
        else:
            time.sleep(moments.uniform(0, 0.2))
        if not process.process.is_alive():  # it was through: the rest of the kills go to a new run
            break
        process.process.kill()
        assert process.end() == -9
        killed += 1
        process = Command(["train", "--resume", "--run-dir", run], output)
    assert process.end() == 0, process.text()
    assert killed == kills
    assert during_saves == (kills + 1) // 2
    assert metrics(run) == metrics(whole)
    for name, value in variables(whole, steps).items():
        np.testing.assert_array_equal(variables(run, steps)[name], value, err_msg=name)
    kept = [sorted(path.name for path in (f / "checkpoints").iterdir()) for f in (run, whole)]
    assert kept[0] == kept[1]


def wait_for_a_save(process, run):
    """Until a checkpoint and half of another are on the disk; False if the process ended first."""
    while process.process.is_alive():
        names = " ".join(os.listdir(run / "checkpoints"))
        if "tempstate" in names and ".index" in names:
            return True
        time.sleep(0.001)
    return False


@pytest.mark.soak
def test_kills_before_the_first_step_leave_no_trace(tmp_path):
    """Of the whole start, from the making of the folder on: it goes on, or begins anew."""
    whole, run, output = tmp_path / "whole", tmp_path / "run", tmp_path / "output"
    options = ["train", *OPTIONS, "--steps", 10, "--run-dir"]
    assert Command([*options, whole], output).end() == 0
    moments = random.Random(3)
    killed = 0
    for number in range(20):
        seconds = moments.uniform(0, 0.1 if number < 8 else 1.5)  # at first before config.json
        killed += killed_after(seconds, command_for(run, options), output).exitcode == -9
    assert killed > 7
    assert Command(command_for(run, options), output).end() == 0, output.read_text()
    assert metrics(run) == metrics(whole)
    assert names_below(run) == names_below(whole)


@pytest.mark.soak
@pytest.mark.parametrize("command", ["recalibrate", "export"])
def test_what_kills_leave_of_other_commands_goes_with_the_next(command, tmp_path):
    run, output, target = tmp_path / "run", tmp_path / "output", tmp_path / "model"
    options = [*OPTIONS, "--fc-batch-norm", "ema", "--steps", 10]  # which export takes
    assert Command(["train", *options, "--run-dir", run], output).end() == 0
    arguments = {"recalibrate": [run, "--images", 10], "export": [run, target]}[command]
    moments = random.Random(4)
    started = time.monotonic()
    assert Command([command, *arguments], output).end() == 0, output.read_text()
    whole = time.monotonic() - started
    killed = 0
    for _ in range(12):
        shutil.rmtree(target, ignore_errors=True)
        process = killed_after(moments.uniform(0.1, 1.1) * whole, [command, *arguments], output)
        killed += process.exitcode == -9
    shutil.rmtree(target, ignore_errors=True)
    assert killed > 3
    assert Command([command, *arguments], output).end() == 0, output.read_text()
    names = [path.name for path in tmp_path.rglob("*")]
    assert not [name for name in names if "unfinished" in name or "tempstate" in name]
    checkpoints = {path.stem for path in (run / "checkpoints").glob("model*")}
    for name in checkpoints:  # each has all its parts
        parts = [path.suffix for path in (run / "checkpoints").glob(f"{name}.*")]
        assert sorted(parts) == [".data-00000-of-00001", ".index", ".meta"], name


def command_for(run, options):
    resumes = (run / "config.json").exists()
    return ["train", "--resume", "--run-dir", run] if resumes else [*options, run]


def killed_after(seconds, arguments, output):
    process = Command(arguments, output).process
    process.join(seconds)
    process.kill()
    process.join()
    return process


def names_below(run):
    """The names of all files, but for the event files', which are of one process each."""
    return sorted(path.name for path in run.rglob("*") if "tfevents" not in path.name)
