"""A run from the making of its folder to its first step: killed there, refused there, or raced."""

import os
import pathlib

import pytest
from support.small_set import TINY

from alexnet_tf1.cli import main as cli
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data import synthetic
from alexnet_tf1.errors import UserError
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs.resume import Start, check_data, settings, start_of
from alexnet_tf1.supervisor import run as supervisor


def begin(folder, *options):
    given = ["--dataset", "synthetic", "--steps", "24", *options, "--run-dir", str(folder)]
    return cli.main(["train", *given])


@pytest.fixture(autouse=True)
def small_data(monkeypatch):
    monkeypatch.setattr(synthetic, "generate", TINY)


class Killed(BaseException):
    """Ends a run in this process as a kill does: nothing is tidied up."""


def kill(*_, **__):
    raise Killed


@pytest.mark.parametrize("during", ["load_dataset", "_fit", "remember_data"])
def test_a_kill_before_the_first_step_can_be_resumed(during, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(supervisor, during, kill)
        with pytest.raises(Killed):
            begin(run)
    assert begin(run) == 2
    assert "is not empty; name a new folder, or add --resume" in capsys.readouterr().err
    opened = runs.open_run(str(run))
    assert settings({"run_dir": str(run)}).steps == 24
    assert start_of(opened, pytest.fail) == Start(resumed=True)
    check_data(opened, TINY(), pytest.fail)
    assert (run / "data.json").exists()


def test_a_kill_before_config_json_leaves_a_folder_to_start_in(tmp_path, monkeypatch):
    run = tmp_path / "run"
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *_: os._exit(9))
    if (child := os.fork()) == 0:
        begin(run)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    monkeypatch.setattr(os, "replace", replace)
    left = sorted(path.name for path in run.iterdir())
    assert [name[:13] for name in left] == [".config.json.", "lock"]
    opened = runs.create(TrainConfig(run_dir=str(run)))
    runs.begin(opened)
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.json", "lock"]
    with pytest.raises(UserError, match="is not empty"):
        runs.begin(opened)


def test_what_did_not_start_leaves_nothing(tmp_path, capsys):
    assert begin(tmp_path / "a/run", "--batch-size", "1000") == 2
    assert "larger than the data set" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_starts_in_one_instant_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    others, mkdir = [], pathlib.Path.mkdir

    def another_is_faster(self, *arguments, **options):
        if self.parent == runs.RUNS and len(others) < 2:
            others.append(self)
            os.mkdir(self)
        return mkdir(self, *arguments, **options)

    monkeypatch.setattr(pathlib.Path, "mkdir", another_is_faster)
    made = runs.create(TrainConfig())
    assert made.folder not in others
    assert made.folder.name.endswith("_3")
    runs.discard(made)
    assert sorted(runs.RUNS.iterdir()) == sorted(others)
