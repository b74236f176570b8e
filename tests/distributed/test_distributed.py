"""Clusters of two and four processes: what one computes; what happens when a worker is lost."""

import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from support.local_cluster import Workers, losses, variables
from support.small_network import make_small
from support.small_set import SMALL

from alexnet_tf1.cli import main as cli
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.distributed.cluster import Cluster
from alexnet_tf1.distributed.handshake import check_wanted
from alexnet_tf1.distributed.worker import data_folder
from alexnet_tf1.errors import UserError
from alexnet_tf1.runs.recovery import problem

STEPS = 10
OPTIONS = [
    "--dataset", "synthetic", "--batch-size", "8", "--log-every", "1", "--checkpoint-every", "4",
    "--test-every", "6", "--test-batches", "2", "--worker-timeout", "20",
    # At the original's rate two runs part within steps, whatever differs (tests/fast/test_fast.py).
    "--learning-rate", "1e-5",
]  # fmt: skip
# Measured over 40 steps: 4e-3, and 4e-3 of the largest; without synchronisation 0.2 and 0.2.
LOSS_TOLERANCE, AVERAGES_TOLERANCE = 1e-2, 1e-2
FIRST_TOLERANCE = 1e-4  # of the first eight losses; measured 1e-5, without synchronisation 0.1


def options(*more, steps=STEPS):
    return [*OPTIONS, "--steps", str(steps), *more]


@pytest.fixture(scope="module", autouse=True)
def small():
    """The same small program in this process as in the workers."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch.setattr, SMALL)
        patch.delenv("TF_CONFIG", raising=False)
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    run = tmp_path_factory.mktemp("alone") / "run"
    assert cli.main(["train", *options(), "--run-dir", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two workers that nothing stopped."""
    workers = Workers(2, tmp_path_factory.mktemp("pair"), options())
    assert workers.end() == {0: 0, 1: 0}, workers.texts()
    return workers


def off(run, alone):
    """Largest differences from one worker: losses, the first eight, and moving averages."""
    ours, theirs = variables(run, STEPS), variables(alone, STEPS)
    assert ours.keys() == theirs.keys()
    moving = [n for n in theirs if "moving_" in n or "ExponentialMovingAverage" in n]
    assert len(moving) == 8
    off = np.abs(losses(run) - losses(alone))
    averages = (np.abs(ours[n] - theirs[n]).max() / np.abs(theirs[n]).max() for n in moving)
    return off.max(), off[:8].max(), max(averages)


def assert_same(run, alone):
    loss, first, averages = off(run, alone)
    assert loss < LOSS_TOLERANCE
    assert first < FIRST_TOLERANCE
    assert averages < AVERAGES_TOLERANCE


def test_two_workers_compute_what_one_does(alone, pair):
    assert_same(pair.run, alone)
    assert json.loads((pair.run / "result.json").read_text())["workers"] == 2


@pytest.mark.soak
def test_two_workers_train_a_recipe_as_one_does(tmp_path):
    """Several steps in a call, bfloat16, Muon, images changed before they are shared out."""
    recipe = options(
        "--recipe", "quick", "--shift", "2", "--muon-rate", "1e-5", "--checkpoint-every", "8",
        "--log-every", "4", "--test-every", "8", steps=8,
    )  # fmt: skip
    assert cli.main(["train", *recipe, "--run-dir", str(tmp_path / "alone")]) == 0
    workers = Workers(2, tmp_path / "two", recipe)
    assert workers.end() == {0: 0, 1: 0}, workers.texts()
    # Measured: 0.004; where each worker moves its own part as if it were the whole, 0.24.
    np.testing.assert_allclose(losses(workers.run), losses(tmp_path / "alone"), atol=0.05)


@pytest.mark.soak
def test_workers_with_as_many_threads_repeat_the_bits_of_others(pair, tmp_path):
    """However they were started; with other numbers of threads, docs/scale.md has the losses."""
    again = Workers(2, tmp_path, options())
    assert again.end() == {0: 0, 1: 0}, again.texts()
    np.testing.assert_array_equal(losses(again.run), losses(pair.run))
    ours, theirs = variables(again.run, STEPS), variables(pair.run, STEPS)
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_the_followers_write_nothing(pair):
    assert sorted(path.name for path in pair.run.parent.iterdir()) == ["run", "worker0", "worker1"]
    said = pair.texts()[1].splitlines()
    assert said[0] == f"{pair.name(1)} waits for the others"
    assert said[-1] == f"done after step {STEPS}"


@pytest.mark.soak
def test_four_workers_do(alone, tmp_path):
    four = Workers(4, tmp_path, options())
    assert set(four.end().values()) == {0}, four.texts()
    assert_same(four.run, alone)


@pytest.mark.parametrize("more", [["--fast"], ["--local-batch-norm"]], ids=" ".join)
def test_two_devices_of_a_process_do_unless_each_normalises_by_itself(more, alone, tmp_path):
    arguments = options("--devices", "2", *more)
    assert cli.main(["train", *arguments, "--run-dir", str(tmp_path / "run")]) == 0
    if more == ["--local-batch-norm"]:
        _, first, averages = off(tmp_path / "run", alone)
        assert first > 100 * FIRST_TOLERANCE
        assert averages > 5 * AVERAGES_TOLERANCE
    else:
        assert_same(tmp_path / "run", alone)


def test_a_killed_worker_is_named_and_the_cluster_goes_on_in_the_same_bits(pair, tmp_path):
    killed = Workers(2, tmp_path / "killed", options())
    killed.wait_for_step(4)
    while not (killed.run / "checkpoints/model.ckpt-4.meta").exists():
        time.sleep(0.005)
    os.kill(killed.commands[1].process.pid, signal.SIGKILL)
    since = time.monotonic()
    assert killed.end(30) == {0: 2, 1: -signal.SIGKILL}
    assert time.monotonic() - since < 10
    line = killed.last_line(0)
    assert line.startswith(f"error: {killed.name(1)} is gone")
    assert line.endswith("with --resume")
    assert problem(str(killed.run / "checkpoints/model.ckpt-4")) is None
    again = Workers(2, tmp_path / "killed", ["--resume"])
    assert again.end() == {0: 0, 1: 0}, again.texts()
    assert "resumed after step" in again.texts()[0]
    ours, theirs = variables(again.run, STEPS), variables(pair.run, STEPS)
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    np.testing.assert_array_equal(losses(again.run), losses(pair.run))


@pytest.mark.soak
def test_a_chief_that_answers_no_more_is_named(tmp_path):
    """Frozen, not dead: its connections stay open, and the step would wait for ever."""
    workers = Workers(2, tmp_path, options("--worker-timeout", "2", "--fast", steps=100_000))
    workers.wait_for_step(2)
    frozen = workers.commands[0].process
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        since = time.monotonic()
        assert workers.commands[1].end(40) == 2
        assert time.monotonic() - since < 25
        assert workers.last_line(1).startswith(f"error: {workers.name(0)} is gone or does not")
    finally:
        frozen.kill()


def test_a_worker_that_does_not_come_is_named(tmp_path):
    more = ["--worker-timeout", "1"]
    workers = Workers(2, tmp_path, options(*more), missing=[1])
    assert workers.end(30) == {0: 2}
    line = workers.last_line(0)
    assert line.startswith(f"error: {workers.name(1)} did not come within 1 s")
    assert not workers.run.exists()


def test_ctrl_c_on_one_worker_stops_all_after_the_same_step(alone, tmp_path):
    workers = Workers(2, tmp_path, options())
    workers.wait_for_step(1)
    os.kill(workers.commands[1].process.pid, signal.SIGINT)
    assert workers.end() == {0: 130, 1: 130}, workers.texts()
    step = json.loads((workers.run / "result.json").read_text())["steps"]
    assert workers.last_line(1) == f"done after step {step}"
    assert problem(str(workers.run / f"checkpoints/model.ckpt-{step}")) is None
    # One worker goes on where two left off.
    assert cli.main(["train", "--resume", "--run-dir", str(workers.run)]) == 0
    assert_same(workers.run, alone)


def test_workers_with_different_options_are_refused():
    two = Cluster(("a:1", "b:2"), 1)
    config = TrainConfig(dataset="synthetic", batch_size=8)
    wanted = dataclasses.asdict(config)
    own = {"dataset": "auto", "run_dir": "x", "data_dir": "y", "worker_timeout": 1}
    check_wanted(two, config, {**wanted, **own})
    said = (
        r"worker 1 \(b:2\) was started with --batch-size 20, worker 0 \(a:1\) with 8; start every"
    )
    with pytest.raises(UserError, match=said):
        check_wanted(two, config, {**wanted, "batch_size": 20})
    with pytest.raises(UserError, match="--local-batch-norm True"):
        check_wanted(two, config, {"local_batch_norm": True})


def test_a_worker_takes_its_own_images_else_those_of_the_chief(tmp_path, monkeypatch):
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    here, elsewhere = (TrainConfig(data_dir=str(tmp_path / name)) for name in (".", "gone"))
    assert data_folder(None, here) == tmp_path
    assert data_folder("own", here) == Path("own")
    assert data_folder(None, elsewhere) is None  # the chief's machine is another one
    monkeypatch.setenv("CIFAR10_DIR", "own")
    assert data_folder(None, here) is None  # which stands for the variable
