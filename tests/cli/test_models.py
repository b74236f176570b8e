"""diagnose and recalibrate on anybody's model: what is called, printed, written and refused.

What they call runs a model and is tested on its own; here a stand-in answers.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from alexnet_tf1.batchnorm.model import diagnose as diagnosing
from alexnet_tf1.batchnorm.model import repair
from alexnet_tf1.cli import main as cli

RIGHT = {"batch statistics": 0.75, "inference": 0.75, "precise": 0.75}
FORGOTTEN = RIGHT | {"inference": 0.25}


def diagnosis(accuracies, labels):
    """What diagnose_model returns of a model with these accuracies by mode."""
    return {
        "model": "m/model 1",
        "checkpoint": "m/model 1",
        "examples": 8,
        "batch_size": 4,
        "logits": "y:0",
        "is_training": [],
        "layers": [
            {"name": "bn", "moving_averages": [], "mean_distance": 2.0, "variance_distance": 3.0}
        ],
        "faults": [{"rule": "BN101", "layer": "bn", "message": "is forgotten"}],
        "notes": [],
        "cells": [
            {"mode": mode, "order": order, "batch_size": size}
            | {"accuracy": accuracy if labels else None, "distance": abs(accuracy - 0.75)}
            for mode, accuracy in accuracies.items()
            for order in ("stored", "sorted")
            for size in (1, 4, 8)
        ],
        "gap_points": 50.0 if labels else None,
        "repeatable": True,
        "changed_variables": [],
    }


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """The calls of the two stand-ins, in a folder with arrays and a run folder."""
    calls = []

    def diagnose_model(path, examples, *, labels, progress, **more):
        calls.append((path, examples, None if labels is None else labels.tolist(), more))
        progress("testing", 3, 8)
        progress("testing", 8, 8)
        return diagnosis(FORGOTTEN, labels is not None)

    def recalibrate_model(path, examples, *, progress, **more):
        calls.append((path, examples, None, more))
        progress("estimating", 8, 8)
        kept = {key: diagnosis(RIGHT, False)[key] for key in ("examples", "layers", "notes")}
        targets = {"checkpoint": more.get("out"), "saved_model": more.get("saved_model")}
        return {"model": path, "batch_size": 4, **kept, **targets}

    monkeypatch.setattr(diagnosing, "diagnose_model", diagnose_model)
    monkeypatch.setattr(repair, "recalibrate_model", recalibrate_model)
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros([8, 3]))
    np.savez("d.npz", y=np.arange(8) % 2)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{}")
    return calls


MODEL = ["m/model 1", "--feed", "x:0=x.npy"]


def test_diagnose_reads_the_options_explains_and_writes(calls, capsys, tmp_path):
    status = cli.main(
        ["diagnose", *MODEL, "--set", "keep=1", "--examples=6", "--labels=d.npz:y", "--logits=y z",
         "--is-training=a", "--is-training=False", "--batch-size=4", "--trust", "--out=new/here",
         "--json"]
    )  # fmt: skip
    out, error = capsys.readouterr()
    assert (status, error) == (0, "")
    ((path, examples, labels, more),) = calls
    assert (path, examples.count, labels) == ("m/model 1", 6, [0, 1, 0, 1, 0, 1])
    assert {*examples.arrays, *examples.constants} == {"x:0", "keep"}
    assert more == {
        "logits": "y z", "is_training": ["a", False], "batch_size": 4, "trust": True,
    }  # fmt: skip
    found = json.loads(out)
    assert json.loads((tmp_path / "new/here/diagnose.json").read_text()) == found
    assert (tmp_path / "new/here/diagnose.png").read_bytes().startswith(b"\x89PNG")
    assert found["verdict"] == [
        "Training never updated the moving averages of bn, and inference reads them: 25.0% in "
        "inference, 75.0% with batch statistics, 75.0% with precise ones. Mend this checkpoint "
        "with `alexnet-tf1 recalibrate 'm/model 1' --feed x:0=x.npy --set keep=1 --examples 6 "
        "--logits 'y z' --is-training a --is-training False --batch-size 4 --trust --out "
        "'m/model 1-recalibrated'`; build the training op under "
        "tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS))."
    ]


def test_diagnose_without_labels_prints_distances_and_writes_beside(calls, capsys, tmp_path):
    assert cli.main(["diagnose", *MODEL]) == 0
    out = capsys.readouterr().out
    assert calls[0][2:] == (None, {})
    assert "inference         stored    0.500" in out
    assert "Training never updated the moving averages of bn" in out
    assert (tmp_path / "diagnose.json").exists()
    assert (tmp_path / "diagnose.png").exists()


@pytest.mark.parametrize(("limit", "status"), [("49", 1), ("50", 0)])
def test_fail_gap_is_for_models_too(limit, status, calls, capsys):
    assert cli.main(["diagnose", *MODEL, "--labels=d.npz:y", f"--fail-gap={limit}"]) == status


def test_recalibrate_writes_what_was_asked_for(calls, capsys):
    assert cli.main(["recalibrate", *MODEL, "--out", "new", "--saved-model", "served"]) == 0
    assert calls[0][3] == {"out": "new", "saved_model": "served"}
    out = capsys.readouterr().out
    assert "written to new; all other variables unchanged" in out
    assert "written to served, a SavedModel" in out
    assert cli.main(["recalibrate", *MODEL, "--saved-model", "served", "--json"]) == 0
    assert calls[1][3] == {"saved_model": "served"}
    assert json.loads(capsys.readouterr().out)["checkpoint"] is None


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["diagnose", "m"], ["m is not a run folder", "--feed NAME=FILE"]),
        (["recalibrate", "m", "--out=new"], ["m is not a run folder", "--feed NAME=FILE"]),
        (["diagnose", "run", "--feed=x=x.npy"], ["--feed is for a MODEL", "run is a run folder"]),
        (["diagnose", "run/config.json", "--trust"], ["--trust is for a MODEL"]),
        (["diagnose", "run", "--batch-size=2"], ["--batch-size is for a MODEL"]),
        (["diagnose", "run", "--labels=d.npz:y"], ["--labels is for a MODEL"]),
        (["recalibrate", "run", "--out=new"], ["--out is for a MODEL"]),
        (["recalibrate", "run", "--saved-model=new"], ["--saved-model is for a MODEL"]),
        (["diagnose", "--feed=x=x.npy"], ["--feed is for a MODEL, and no MODEL is named"]),
        (["diagnose", *MODEL, "--images=5"], ["--images is for a run folder", "m/model 1"]),
        (["recalibrate", *MODEL, "--out=new", "--data-dir=d"], ["--data-dir is for a run"]),
        (["diagnose", *MODEL, "--checkpoint=5"], ["--checkpoint is for a run folder"]),
        (["diagnose", *MODEL, "--fail-gap=2"], ["--fail-gap", "--labels FILE"]),
        (["recalibrate", *MODEL], ["--out PREFIX", "--saved-model DIR"]),
        (["diagnose", *MODEL, "--out=x.npy"], ["--out x.npy cannot be made"]),
        (["diagnose", *MODEL, "--out=x.npy/below"], ["--out x.npy/below cannot be made"]),
        (["diagnose", *MODEL, "--feed=x=x.npy"], ["--feed x=x.npy", "same tensor"]),
        (["diagnose", *MODEL, "--labels=d.npz"], ["--labels d.npz", "KEY"]),
        (["diagnose", *MODEL, "--examples=9"], ["--examples 9", "8"]),
    ],
)
def test_what_does_not_go_together_is_one_line(arguments, parts, calls, capsys, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(arguments) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n"), calls) == ("", 1, [])
    for part in parts:
        assert part in error
    assert sorted(tmp_path.rglob("*")) == before


def test_a_picture_that_cannot_be_written_is_noticed_before_the_model_is_run(
    calls, capsys, tmp_path
):
    (tmp_path / "new/diagnose.png").mkdir(parents=True)
    assert cli.main(["diagnose", *MODEL, "--out=new"]) == 2
    assert "diagnose.png is a folder" in capsys.readouterr().err
    assert calls == []
