"""Checkpoints are on the disk before they count, and what a power cut leaves is passed over."""

from __future__ import annotations

import dataclasses
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from alexnet_tf1 import files
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.errors import UserError
from alexnet_tf1.runs import network, recovery
from alexnet_tf1.runs.folder import Run
from alexnet_tf1.runs.resume import start_of
from alexnet_tf1.runs.saving import save

STEPS = (5, 20, 100)  # by name, 100 would come first
DATA = ".data-00000-of-00001"


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    """A session with a little to save, and its Saver."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("kernel", initializer=np.arange(12.0))
        session.run(tf.global_variables_initializer())
        yield session, tf.train.Saver(max_to_keep=2, save_relative_paths=True)


@pytest.fixture(scope="module")
def saved(session: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    kept: list[str] = []
    for step in STEPS:
        kept = save(*session, str(folder / f"model.ckpt-{step}"), kept, keep=3)
    return folder


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Run:
    shutil.copytree(saved, tmp_path / "checkpoints")
    return Run(tmp_path, TrainConfig())


def prefix(run: Run, step: int) -> str:
    return str(run.checkpoints / f"model.ckpt-{step}")


def test_the_files_are_those_of_saver_itself(session: Any, saved: Path, tmp_path: Path) -> None:
    shown, saver = session
    saver = tf.train.Saver(max_to_keep=3, save_relative_paths=True)
    for step in STEPS:
        saver.save(shown, str(tmp_path / "model.ckpt"), global_step=step)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in saved.iterdir()}
    for name in ("checkpoint", "model.ckpt-100.index", f"model.ckpt-100{DATA}"):
        assert (saved / name).read_bytes() == (tmp_path / name).read_bytes()


def test_all_is_flushed_before_it_is_named_and_named_before_the_old_goes(
    session: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noting(call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(path: Any, *more: Any, **options: Any) -> Any:
            done.append(f"{call.__name__} {Path(path).name}")
            return call(path, *more, **options)

        return noted

    for place, name in ((files, "flush"), (files, "write_bytes"), (recovery, "remove")):
        monkeypatch.setattr(place, name, noting(getattr(place, name)))
    new = prefix(run, 200)
    kept = save(*session, new, [prefix(run, step) for step in STEPS], keep=2)
    assert kept == [prefix(run, 100), new]
    parts = {f"flush model.ckpt-200{part}" for part in (".index", DATA, ".meta")}
    assert set(done[:3]) == parts
    assert done[3] == "flush checkpoints"
    assert done[4] == "write_bytes checkpoint"
    assert done[-2:] == ["remove model.ckpt-5", "remove model.ckpt-20"]
    left = {path.name.partition(".")[2].partition(".")[0] for path in run.checkpoints.iterdir()}
    assert left == {"", "ckpt-100", "ckpt-200"}


def test_a_save_that_fails_leaves_the_others_and_their_names(session: Any, run: Run) -> None:
    state = (run.checkpoints / "checkpoint").read_bytes()
    (run.checkpoints / f"model.ckpt-200{DATA}").mkdir()
    with pytest.raises(tf.errors.OpError):
        save(*session, prefix(run, 200), [prefix(run, step) for step in STEPS], keep=1)
    assert (run.checkpoints / "checkpoint").read_bytes() == state
    assert all(recovery.problem(prefix(run, step)) is None for step in STEPS)


def test_a_step_that_is_saved_again_is_kept_once(session: Any, run: Run) -> None:
    kept = save(*session, prefix(run, 100), [prefix(run, step) for step in STEPS], keep=3)
    assert kept == [prefix(run, step) for step in STEPS]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def old(path: Path) -> None:
    """As it was before the last save."""
    if path.name == "checkpoint":
        path.write_text('model_checkpoint_path: "model.ckpt-4"\n')
    else:
        path.unlink()


CUTS = (empty, short, zeroed, old)


@pytest.mark.parametrize("cut", CUTS)
def test_a_state_file_that_was_cut_is_passed_over(run: Run, cut: Callable[[Path], None]) -> None:
    assert run.checkpoint() == prefix(run, 100)
    cut(run.checkpoints / "checkpoint")
    with pytest.warns(UserWarning, match=r"names no .* there; model.ckpt-100 is taken"):
        assert run.checkpoint() == prefix(run, 100)
    assert run.all_checkpoints() == [prefix(run, step) for step in STEPS]
    assert recovery.newest_sound(run.checkpoints, pytest.fail) == prefix(run, 100)


@pytest.mark.parametrize("part", [".index", DATA])
@pytest.mark.parametrize("cut", CUTS)
def test_a_checkpoint_that_was_cut_with_its_state_file_is_passed_over(
    run: Run, part: str, cut: Callable[[Path], None]
) -> None:
    (run.checkpoints / "checkpoint").unlink()
    cut(Path(prefix(run, 100) + part))
    with pytest.warns(UserWarning, match=r"model.ckpt-20 is taken"):
        assert run.checkpoint() == prefix(run, 20)
    lines: list[str] = []
    assert recovery.newest_sound(run.checkpoints, lines.append) == prefix(run, 20)
    assert len(lines) == 1


@pytest.mark.parametrize("cut", CUTS)
def test_a_graph_that_was_cut_is_needed_by_no_restore(
    run: Run, cut: Callable[[Path], None]
) -> None:
    cut(Path(prefix(run, 100) + ".meta"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run.checkpoint() == prefix(run, 100)
    assert recovery.newest_sound(run.checkpoints, pytest.fail) == prefix(run, 100)


def test_the_state_file_of_a_stranger_leads_nowhere_else(run: Run, saved: Path) -> None:
    (run.checkpoints / "checkpoint").write_text(f'model_checkpoint_path: "{saved}/model.ckpt-20"')
    assert run.checkpoint() == prefix(run, 20)
    os.unlink(prefix(run, 20) + ".index")
    with pytest.warns(UserWarning, match="names no checkpoint"):
        assert run.checkpoint() == prefix(run, 100)


def test_where_none_is_whole_the_newest_is_named(run: Run) -> None:
    (run.checkpoints / "checkpoint").unlink()
    for step in STEPS:
        zeroed(Path(prefix(run, step) + DATA))
    with pytest.warns(UserWarning, match="names no checkpoint"):
        assert run.checkpoint() == prefix(run, 100)
    shutil.rmtree(run.checkpoints)
    with pytest.raises(UserError, match="holds no checkpoint; train the run first"):
        run.checkpoint()


def zeroed_end(path: Path) -> None:
    half = path.stat().st_size // 2
    path.write_bytes(path.read_bytes()[:half] + bytes(half))


@pytest.mark.parametrize("cut", [empty, short, zeroed, zeroed_end, old])
def test_metrics_that_end_before_the_checkpoint_are_said(
    run: Run, cut: Callable[[Path], None]
) -> None:
    run = dataclasses.replace(run, config=TrainConfig(log_every=15, steps=100))
    lines: list[str] = []
    for step in (15, 30, 45, 60, 75, 90, 100):
        run.log(step=step, loss=1.0)
    run.log(step=100, test_accuracy=0.5)
    assert start_of(run, lines.append).step == 100
    assert len(run.metrics()) == 7
    assert lines == []
    cut(run.folder / "metrics.jsonl")
    assert start_of(run, lines.append).step == 100
    (line,) = lines
    assert "metrics.jsonl ends at step" in line
    assert "before the checkpoint of step 100: what was logged in between is lost" in line


def test_metrics_may_end_before_a_checkpoint_between_two_lines(run: Run) -> None:
    run = dataclasses.replace(run, config=TrainConfig(log_every=60, steps=200))
    run.log(step=60, loss=1.0)
    assert start_of(run, pytest.fail).step == 100


def test_a_checkpoint_that_the_trainer_removes_while_it_is_read_is_replaced(
    session: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def restore(session_: Any, net: Any, path: str) -> None:
        tried.append(path)
        if len(tried) == 1:
            save(*session, prefix(run, 200), [prefix(run, step) for step in STEPS], keep=1)
            raise UserError("model.ckpt-100.index is missing")

    monkeypatch.setattr(network, "restore", restore)
    assert network.restore_chosen(None, None, run, None) == prefix(run, 200)
    assert tried == [prefix(run, 100), prefix(run, 200)]


def test_a_checkpoint_that_is_there_and_damaged_is_not_replaced(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restore(*_: Any) -> None:
        raise UserError("damaged")

    monkeypatch.setattr(network, "restore", restore)
    for chosen in (None, "20"):
        with pytest.raises(UserError, match="damaged"):
            network.restore_chosen(None, None, run, chosen)
