"""A run that stopped, however, and goes on ends in the same bits as one that did not."""

import dataclasses
import json
import logging
import os
import pathlib
import shutil
import signal

import numpy as np
import pytest
from support.forked import Command
from support.run_files import metrics, variables
from support.small_network import make_small

from alexnet_tf1 import evaluate
from alexnet_tf1.cli import main as cli
from alexnet_tf1.cli.arguments import parser
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.batches import Batches
from alexnet_tf1.data.dataset import Split
from alexnet_tf1.errors import UserError
from alexnet_tf1.reporting import plots
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs.lock import RunLock
from alexnet_tf1.runs.recovery import problem
from alexnet_tf1.runs.resume import Start, cut_metrics, settings, start_of
from alexnet_tf1.supervisor.hooks import RunHooks

STEPS = 24
EVERY_STEP = TrainConfig(log_every=1)
OPTIONS = [
    "--dataset", "synthetic", "--batch-size", "4", "--log-every", "3", "--test-every", "8",
    "--test-batches", "4", "--checkpoint-every", "6",
]  # fmt: skip
RECIPE = ["--recipe", "quick", "--shift", "2"]
VARIANTS = {"default": [], "fast": ["--fast"], "recipe": RECIPE}


def start(folder, *options, steps=STEPS):
    return cli.main(["train", *OPTIONS, *options, "--steps", str(steps), "--run-dir", str(folder)])


def resume(folder, *options):
    return cli.main(["train", "--resume", "--run-dir", str(folder), *options])


def assert_same_run(folder, whole):
    assert metrics(folder) == metrics(whole)
    ours, theirs = variables(folder, STEPS), variables(whole, STEPS)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    names = [sorted(p.name for p in (f / "checkpoints").iterdir()) for f in (folder, whole)]
    assert names[0] == names[1]
    results = [json.loads((f / "result.json").read_text()) for f in (folder, whole)]
    same = ("steps", "test_accuracy", "test_accuracy_full", "batch_statistics_accuracy_full")
    assert [results[0][key] for key in same] == [results[1][key] for key in same]


@pytest.fixture(scope="module", autouse=True)
def small_data():
    """15 batches of training images: the second half of each run begins them again."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch.setattr)
        yield


@pytest.fixture(scope="module")
def whole(small_data, tmp_path_factory):
    """Runs that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    for name, options in VARIANTS.items():
        assert start(folder / name, *options) == 0
    return folder


@pytest.fixture(scope="module")
def halves(small_data, tmp_path_factory):
    """Runs that ended at half of it."""
    folder = tmp_path_factory.mktemp("half")
    for name in ("default", "fast"):
        assert start(folder / name, *VARIANTS[name], steps=12) == 0
    return folder


@pytest.mark.parametrize("variant", ["default", "fast"])
def test_a_finished_run_goes_on_to_more_steps(variant, halves, whole, tmp_path, capsys, caplog):
    run = shutil.copytree(halves / variant, tmp_path / "run")
    caplog.set_level("WARNING", logger="tensorflow")
    logging.getLogger("tensorflow").addHandler(caplog.handler)
    try:
        assert resume(run, "--steps", str(STEPS)) == 0
    finally:
        logging.getLogger("tensorflow").removeHandler(caplog.handler)
    assert not [record.getMessage() for record in caplog.records]
    assert "resumed after step 12" in capsys.readouterr().out
    assert_same_run(run, whole / variant)
    assert json.loads((run / "result.json").read_text())["resumed_after_step"] == 12
    assert json.loads((run / "config.json").read_text())["steps"] == STEPS


@pytest.mark.parametrize(
    ("variant", "number"),
    [("default", signal.SIGINT), ("recipe", signal.SIGTERM)],
)
def test_a_signal_between_steps(variant, number, whole, tmp_path, monkeypatch):
    after_steps = RunHooks.after_steps

    def signal_and_go_on(self, step, losses, accuracies):
        if step >= 16:  # a test is due after this step
            os.kill(os.getpid(), number)
        after_steps(self, step, losses, accuracies)

    monkeypatch.setattr(RunHooks, "after_steps", signal_and_go_on)
    run = tmp_path / "run"
    assert start(run, *VARIANTS[variant]) == 128 + number
    monkeypatch.undo()
    result = json.loads((run / "result.json").read_text())
    assert result["stopped_by"] == number
    assert result["steps"] == 16
    assert problem(str(run / "checkpoints/model.ckpt-16")) is None
    assert resume(run) == 0
    ours, theirs = variables(run, STEPS), variables(whole / variant, STEPS)
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    assert metrics(run) == metrics(whole / variant)


@pytest.mark.parametrize(("batch", "at"), [(2, 8), (3, STEPS)])
def test_a_signal_in_a_test(batch, at, whole, tmp_path, monkeypatch):
    """In the [Test] line's batches, and in the final test of every image."""
    in_order = evaluate.batches.in_order
    tests = []

    def batches_and_signal(split, batch_size):
        tests.append(len(split.labels))
        final = len(split.labels) == 20  # a [Test] line has 16
        for number, found in enumerate(in_order(split, batch_size)):
            wanted = final if batch == 3 else len(tests) == at // 8
            if number == batch and wanted:
                os.kill(os.getpid(), signal.SIGINT)
            yield found

    monkeypatch.setattr(evaluate.batches, "in_order", batches_and_signal)
    run = tmp_path / "run"
    assert start(run) == 130
    monkeypatch.undo()
    assert json.loads((run / "result.json").read_text())["steps"] == at
    assert resume(run) == 0
    assert metrics(run) == metrics(whole / "default")
    for name, value in variables(whole / "default", STEPS).items():
        np.testing.assert_array_equal(variables(run, STEPS)[name], value, err_msg=name)


def test_what_a_kill_left_is_cut_off_and_a_damaged_checkpoint_passed_over(
    halves, whole, tmp_path, capsys
):
    run = shutil.copytree(halves / "default", tmp_path / "run")
    checkpoints = run / "checkpoints"
    (checkpoints / "model.ckpt-18.data-00000-of-00001.tempstate1234").write_bytes(b"half")
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 15, "loss": 1.0, "accuracy": 0.5}\n{"step": 18, "lo')
    data = checkpoints / "model.ckpt-12.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    assert resume(run, "--steps", str(STEPS)) == 0
    out = capsys.readouterr().out
    assert "model.ckpt-12" in out
    assert "resumed after step 6" in out
    assert_same_run(run, whole / "default")


def test_a_checkpoint_that_a_kill_left_without_its_graph_gets_one(halves, whole, tmp_path):
    run = shutil.copytree(halves / "default", tmp_path / "run")
    (run / "checkpoints/model.ckpt-12.meta").unlink()
    assert resume(run, "--steps", str(STEPS)) == 0
    assert_same_run(run, whole / "default")


def test_a_run_killed_before_its_first_checkpoint_begins_again(halves, tmp_path):
    run = runs.open_run(str(shutil.copytree(halves / "default", tmp_path / "run")))
    shutil.rmtree(run.checkpoints)
    assert start_of(run, pytest.fail) == Start(resumed=True)
    assert (run.folder / "metrics.jsonl").read_text() == ""


def test_a_finished_run_says_so(whole, capsys):
    before = (whole / "default/result.json").read_bytes()
    assert resume(whole / "default") == 0
    assert "is finished: 24 steps; nothing to resume" in capsys.readouterr().out
    assert (whole / "default/result.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batch-size", "6"], r"--batch-size 6 \(the run's: 4\)"),
        (["--fast", "--seed", "1"], r"--fast True \(the run's: False\), --seed 1 \(the run's: 0\)"),
        (["--steps", "10"], r"--steps 10 is less than the run's 24"),
        (["--precision", "bfloat16"], r"--precision bfloat16 \(the run's: float32\)"),
    ],
)
def test_other_options_are_refused(options, said, whole):
    given = vars(parser().parse_args(["train", *options]))
    given = {k: v for k, v in given.items() if k not in ("command", "debug", "resume", "quiet")}
    with pytest.raises(UserError, match=said):
        settings({**given, "run_dir": str(whole / "default")})


def test_a_rate_that_came_down_to_0_does_not_go_on(whole):
    given = {"run_dir": str(whole / "recipe")}
    assert settings({**given, "steps": STEPS, "recipe": "quick"}).optimizer == "muon"
    with pytest.raises(UserError, match=r"--steps 25 is more than the run's 24, in which its one"):
        settings({**given, "steps": STEPS + 1})


@pytest.mark.parametrize("dataset", ["auto", "cifar10"])
@pytest.mark.parametrize("archive", [False, True])
def test_nothing_is_made_where_a_run_s_settings_say(dataset, archive, whole, tmp_path, capsys):
    """Not by a resumption, and not by a command that reads the run."""
    run, place = tmp_path / "run", tmp_path / "place"
    run.mkdir()
    config = json.loads((whole / "default/config.json").read_text())
    config = {**config, "dataset": dataset, "data_dir": f"{place}/x\x1b[2J"}
    if archive:
        pathlib.Path(config["data_dir"]).mkdir(parents=True)
        (pathlib.Path(config["data_dir"]) / "cifar-10-python.tar.gz").write_bytes(b"archive")
    (run / "config.json").write_text(json.dumps(config))
    shutil.copytree(whole / "default/checkpoints", run / "checkpoints", copy_function=os.link)
    before = sorted(tmp_path.rglob("*"))
    for command in (["train", "--resume", "--run-dir"], ["evaluate"]):
        assert cli.main([*command, str(run)]) == 2
        found = "holds cifar-10-python.tar.gz, and nothing is" if archive else "is not there"
        assert f"place/x\\x1b[2J {found}" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_run_s_own_options_are_not(whole):
    given = {"batch_size": 4, "dataset": "auto", "run_dir": str(whole / "default")}
    assert settings(given).batch_size == 4
    assert settings({**given, "dataset": "synthetic"}).dataset == "synthetic"


def test_no_run_to_resume(tmp_path, capsys):
    assert cli.main(["train", "--resume"]) == 2
    assert "--resume needs --run-dir" in capsys.readouterr().err
    assert resume(tmp_path) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_other_images_are_refused(whole, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole / "default", run)
    noted = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**noted, "crc32_of_train_images": 1}))
    assert resume(run, "--steps", "30") == 2
    assert "was trained on other images" in capsys.readouterr().err
    assert json.loads((run / "config.json").read_text())["steps"] == STEPS


def test_a_folder_that_another_process_writes_to_is_refused(whole, capsys):
    for arguments in (["train", "--resume", "--steps", "30", "--run-dir"], ["recalibrate"]):
        with RunLock(whole / "default"):
            assert cli.main([*arguments, str(whole / "default")]) == 2
        assert f"{os.getpid()}" in capsys.readouterr().err


def test_a_full_disk_ends_the_run_with_its_checkpoints_whole(halves, whole, tmp_path):
    run, output = shutil.copytree(halves / "default", tmp_path / "run"), tmp_path / "output"
    there = sorted(path.name for path in (run / "checkpoints").iterdir())
    options = ["train", "--resume", "--run-dir", run, "--steps", STEPS]
    full = Command(options, output, largest_file=1_500_000)  # a checkpoint has 2.8 MB
    assert full.end() == 2
    last = full.text().splitlines()[-1]
    assert last.startswith(f"error: {run} cannot be written (File too large)")
    assert last.endswith("what was saved is whole: make room, then go on with --resume")
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == there
    assert problem(str(run / "checkpoints/model.ckpt-12")) is None
    assert resume(run) == 0
    assert_same_run(run, whole / "default")


def test_a_disk_that_is_full_at_the_first_save_says_that_nothing_was_saved(tmp_path):
    run, output = tmp_path / "run", tmp_path / "output"
    options = ["train", "--dataset", "synthetic", "--batch-size", "4", "--steps", "1"]
    full = Command([*options, "--run-dir", run], output, largest_file=1_500_000)
    assert full.end() == 2
    last = full.text().splitlines()[-1]
    assert last.startswith(f"error: {run} cannot be written (File too large); nothing was saved")
    assert list((run / "checkpoints").glob("*")) == []


@pytest.mark.parametrize("size", [50, 53])
def test_skipping_leads_where_taking_leads(size):
    split = Split(np.zeros([size, 1], np.uint8), np.arange(size))
    for steps in (0, 1, 9, 10, 11, 23):
        taken, skipped = Batches(split, 3), Batches(split, 3).skip(steps, 5)
        for _ in range(steps):
            taken.next_batch(5)
        for _ in range(12):
            np.testing.assert_array_equal(taken.next_batch(5)[1], skipped.next_batch(5)[1])


def test_a_damaged_line_of_metrics_is_named_unless_it_is_the_last(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nnonsense\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 is not JSON"):
        cut_metrics(path, 3, EVERY_STEP)
    assert path.read_text().count("\n") == 3
    path.write_text('{"step": 1}\n{"step": 3}\n{"st')
    cut_metrics(path, 2, EVERY_STEP)
    assert path.read_text() == '{"step": 1}\n'


def test_the_test_of_the_checkpoint_s_step_is_done_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 3, "loss": 1}\n{"step": 3, "test_accuracy": 1}\n')
    cut_metrics(path, 4, EVERY_STEP)
    assert path.read_text().count("\n") == 2
    cut_metrics(path, 3, EVERY_STEP)
    assert path.read_text() == '{"step": 3, "loss": 1}\n'


def test_the_line_of_a_last_step_that_is_no_longer_the_last_is_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 4, "loss": 1}', '{"step": 5, "test_accuracy": 1}', '{"step": 6, "loss": 1}']
    path.write_text("".join(f"{line}\n" for line in lines))
    config = TrainConfig(log_every=4, steps=6)
    cut_metrics(path, 6, config)
    assert path.read_text().splitlines() == lines
    cut_metrics(path, 6, dataclasses.replace(config, steps=7))
    assert path.read_text().splitlines() == lines[:2]


@pytest.fixture
def shared_half(halves, tmp_path):
    """A half run to damage, which shares its checkpoints with the others."""
    ignore = shutil.ignore_patterns("checkpoints")
    run = shutil.copytree(halves / "default", tmp_path / "half", ignore=ignore)
    checkpoints = halves / "default/checkpoints"
    shutil.copytree(checkpoints, run / "checkpoints", copy_function=os.link)
    return runs.open_run(str(run))


def test_what_a_power_cut_left_of_result_and_data_stops_no_resumption(shared_half, capsys):
    """Of files that were written last. What is lost with them is written again."""
    folder = shared_half.folder
    result = json.loads((folder / "result.json").read_text())
    data = (folder / "data.json").read_bytes()
    contents = {"result.json": bytes(900), "data.json": b"", "checkpoints/checkpoint": bytes(50)}
    for name, content in contents.items():
        (folder / name).unlink()
        (folder / name).write_bytes(content)
    assert resume(folder) == 0
    out = capsys.readouterr().out
    assert "result.json is not JSON" in out
    assert "data.json is not JSON" in out
    again = json.loads((folder / "result.json").read_text())
    assert {k: again[k] for k in ("steps", "final_loss", "test_accuracy_full")} == {
        k: result[k] for k in ("steps", "final_loss", "test_accuracy_full")
    }
    assert again["final_loss"] is not None
    assert (folder / "data.json").read_bytes() == data


class Killed(BaseException):
    """Ends a run in this process as a kill does: nothing is tidied up."""


def kill(*_, **__):
    raise Killed


def test_the_picture_comes_before_the_result_that_says_all_is_done(
    shared_half, monkeypatch, capsys
):
    folder = shared_half.folder
    (folder / "result.json").unlink()
    monkeypatch.setattr(plots, "curves", kill)
    with pytest.raises(Killed):
        resume(folder)
    assert not (folder / "result.json").exists()
