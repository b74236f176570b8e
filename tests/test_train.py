"""The loop end to end on the embedded data: what it writes, prints, and when it stops."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from support.forked import Command
from support.small_network import make_small

from alexnet_tf1.cli.arguments import parser
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.errors import UserError
from alexnet_tf1.gap.both_modes import evaluate_run
from alexnet_tf1.supervisor.hooks import RunHooks
from alexnet_tf1.supervisor.run import run_training

ROOT = Path(__file__).parents[1]
SHORT = {
    "dataset": "synthetic", "steps": 30, "batch_size": 4, "log_every": 10, "test_every": 15,
    "test_batches": 5,
}  # fmt: skip
RESULT = {  # SPEC: these at least
    "dataset", "config", "steps", "test_accuracy", "test_accuracy_full",
    "batch_statistics_accuracy_full", "gap_points", "wall_s", "steps_per_s", "peak_rss_mb",
    "device", "versions",
}  # fmt: skip


# run_train.py in a process of its own, which tests fewer images: 300 and 100.
SCRIPT = f"""
import runpy
import sys
sys.path[:0] = {[str(ROOT), str(ROOT / "tests")]}
from alexnet_tf1.data import synthetic
from support.small_set import SMALL
synthetic.generate = SMALL
runpy.run_path({str(ROOT / "run_train.py")!r}, run_name="__main__")
"""


def run_train(*options, **kwargs):
    command = [sys.executable, "-c", SCRIPT, *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


@pytest.fixture(scope="module")
def small_data():
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch.setattr)
        yield


@pytest.fixture(scope="module")
def run_folder(small_data, tmp_path_factory):
    """One run in this process; the tests below read what it left."""
    folder = tmp_path_factory.mktemp("run") / "a"
    run_training(TrainConfig(**SHORT, run_dir=str(folder), checkpoint_every=10, keep=2))
    return folder


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """A run by the command, as a user types it, in a fresh folder."""
    folder = tmp_path_factory.mktemp("script")
    done = run_train(
        "--dataset", "synthetic", "--steps", 6, "--batch-size", 50, "--log-every", 2,
        "--test-every", 3, "--test-batches", 2, "--checkpoint-every", 2, "--keep", 1, cwd=folder,
    )  # fmt: skip
    return folder, done


def test_the_command_writes_all_that_is_promised(script):
    folder, done = script
    assert done.returncode == 0, done.stderr
    (run,) = (folder / "runs").iterdir()
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "metrics.jsonl", "result.json", "curves.png", "checkpoints"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((run / "result.json").read_text())
    assert set(result) >= RESULT
    assert result["dataset"]["name"] == "synthetic"
    assert result["dataset"]["verified"] is False
    assert result["steps"] == 6
    gap = 100 * (result["batch_statistics_accuracy_full"] - result["test_accuracy_full"])
    assert result["gap_points"] == pytest.approx(gap)


def test_the_command_prints_the_original_s_lines(script):
    _, done = script
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    shown = [line.split(":")[0] for line in lines[:4]]
    assert shown == ["data set", "device", "parameters", "run folder"]
    assert "3,345,162" in lines[2]
    pattern = r"\[Train\] Step: 2, loss: \d\.\d{5}, acc:\d\.\d{5} \(synthetic\)"
    assert [line for line in lines if re.fullmatch(pattern, line)]
    pattern = r"\[Test\] Step: 3, acc:\d\.\d{5} \(synthetic\)"
    assert [line for line in lines if re.fullmatch(pattern, line)]
    quoting = [line for line in lines if "acc" in line]
    assert len(quoting) == 7
    assert all("synthetic" in line for line in quoting)


def test_equal_seeds_give_equal_metrics_in_another_process(run_folder, tmp_path):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SHORT.items()]
    other = Command(["train", *options, "--run-dir", tmp_path / "run"], tmp_path / "output")
    assert other.end() == 0, other.text()
    assert len(metrics(run_folder)) == 5
    assert metrics(tmp_path / "run") == metrics(run_folder)


def test_another_seed_gives_other_losses(run_folder, tmp_path):
    run_training(TrainConfig(**{**SHORT, "steps": 10}, seed=1, run_dir=str(tmp_path / "b")))
    assert metrics(tmp_path / "b")[0]["loss"] != metrics(run_folder)[0]["loss"]


def metrics(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for record in records:  # a rate is not a matter of seeds
        assert record.pop("images_per_s", 1) > 0
    return records


def test_metrics_hold_a_line_for_each_line_printed(run_folder):
    records = metrics(run_folder)
    assert [r["step"] for r in records if "loss" in r] == [10, 20, 30]
    assert [r["step"] for r in records if "test_accuracy" in r] == [15, 30]
    result = json.loads((run_folder / "result.json").read_text())
    assert result["test_accuracy"] == pytest.approx(records[-1]["test_accuracy"], abs=1e-12)


def test_the_newest_checkpoints_are_kept_and_the_folder_can_move(run_folder, tmp_path):
    kept = {path.name for path in (run_folder / "checkpoints").glob("*.index")}
    assert kept == {"model.ckpt-20.index", "model.ckpt-30.index"}
    moved = tmp_path / "moved"
    shutil.copytree(run_folder, moved)
    assert tf.train.latest_checkpoint(str(moved / "checkpoints")).startswith(str(moved))


def test_evaluate_agrees_with_the_end_of_training(run_folder):
    result = json.loads((run_folder / "result.json").read_text())
    found = evaluate_run(str(run_folder))
    for key in ("test_accuracy_full", "batch_statistics_accuracy_full", "gap_points"):
        assert found[key] == result[key]


def test_evaluate_counts_a_partial_batch_once(run_folder):
    # 20 images in batches of 6: an accuracy of whole images over 20, no image twice
    found = evaluate_run(str(run_folder), batch_size=6, fc_batch_norm="ema")
    right = found["test_accuracy_full"] * 20
    assert right == pytest.approx(round(right), abs=1e-9)
    one_batch = evaluate_run(str(run_folder), batch_size=20, fc_batch_norm="ema")
    # With moving averages everywhere an image's class does not depend on its batch.
    assert found["test_accuracy_full"] == one_batch["test_accuracy_full"]


def test_evaluate_takes_an_older_checkpoint(run_folder):
    assert evaluate_run(str(run_folder), checkpoint="20")["checkpoint"].endswith("model.ckpt-20")
    with pytest.raises(UserError, match=r"--checkpoint 33 is not there; .* has 20, 30"):
        evaluate_run(str(run_folder), checkpoint="33")


def test_evaluate_refuses_a_checkpoint_of_another_network(run_folder, tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("conv1/kernel", [2])
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, str(tmp_path / "other"))
    with pytest.raises(UserError, match="is of another network: conv1/kernel"):
        evaluate_run(str(run_folder), checkpoint=path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_its_log(small_data, tmp_path):
    config = TrainConfig(**{**SHORT, "log_every": 1}, learning_rate=1e36, run_dir=f"{tmp_path}/r")
    with pytest.raises(UserError, match=r"loss is (nan|inf) at step \d+; lower --learning-rate"):
        run_training(config)
    assert np.isfinite(metrics(tmp_path / "r")[0]["loss"])
    assert not (tmp_path / "r" / "result.json").exists()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)]
)
def test_a_signal_stops_between_steps_and_saves(number, tmp_path):
    options = ["--run-dir", tmp_path / "a run", "--log-every", "5"]
    command = Command(["train", "--dataset", "synthetic", *options], tmp_path / "output")
    command.wait_for("[Train]")
    os.kill(command.process.pid, number)
    sent = time.monotonic()
    assert command.end(30) == 128 + number
    assert time.monotonic() - sent < 20  # promised: 5 s; a loaded machine gets more
    result = json.loads((tmp_path / "a run" / "result.json").read_text())
    assert result["stopped_by"] == number
    assert result["test_accuracy_full"] is None
    said = command.text().splitlines()
    stop = next(n for n, line in enumerate(said) if line.startswith("Stopped after step"))
    assert said[stop].startswith(f"Stopped after step {result['steps']}; ")
    resume = f"alexnet-tf1 train --resume --run-dir '{tmp_path}/a run'"
    assert said[stop + 1 :] == ["Go on with:", f"    {resume}"]
    given = vars(parser().parse_args(shlex.split(resume)[1:]))
    assert (given["resume"], given["run_dir"]) == (True, str(tmp_path / "a run"))
    names = [path.name for path in (tmp_path / "a run/checkpoints").glob("*.index")]
    assert names == [f"model.ckpt-{result['steps']}.index"]


def test_a_batch_that_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="--batch-size 3000 is larger than the data set synthetic"):
        run_training(
            TrainConfig(dataset="synthetic", batch_size=3000, run_dir=str(tmp_path / "run"))
        )
    assert not (tmp_path / "run").exists()


def test_a_run_shorter_than_log_every_shows_its_last_step(small_data, tmp_path, capsys):
    run = tmp_path / "run"
    seen = []
    after_steps = RunHooks.after_steps

    def look_and_go_on(self, step, losses, accuracies):
        seen.append((run / "metrics.jsonl").exists())
        after_steps(self, step, losses, accuracies)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunHooks, "after_steps", look_and_go_on)
        run_training(TrainConfig(dataset="synthetic", steps=3, batch_size=4, run_dir=str(run)))
    assert seen == [True] * 3
    assert [record["step"] for record in metrics(run)] == [3]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "[Train]" in line]
    assert line.startswith("[Train] Step: 3, loss: ")


def test_fewer_test_batches_than_asked_for_are_announced(small_data, tmp_path, capsys):
    run_training(
        TrainConfig(dataset="synthetic", batch_size=6, steps=1, run_dir=str(tmp_path / "run"))
    )
    assert "--test-batches: 3 instead of 100" in capsys.readouterr().out
    assert json.loads((tmp_path / "run/config.json").read_text())["test_batches"] == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ["note: "]),
        ({"fc_batch_norm": "ema"}, []),
        (
            {"fc_batch_norm": "ema", "update_ops": "none"},
            ["audit, BN101: train_op never updates the moving averages of batch_normalization, "],
        ),
    ],
)
def test_a_run_says_what_is_wrong_with_its_graph(options, said, small_data, tmp_path, capsys):
    config = TrainConfig(
        dataset="synthetic", steps=1, batch_size=4, run_dir=str(tmp_path / "run"), **options
    )
    run_training(config)
    lines = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith(("audit", "note"))
    ]
    assert len(lines) == len(said)
    for line, start in zip(lines, said, strict=True):
        assert line.startswith(start)
