"""The commands that the screen names next: they parse, and are the right ones."""

import shlex

import pytest

from alexnet_tf1.cli import output
from alexnet_tf1.cli.arguments import parser
from alexnet_tf1.reporting import console, next_steps
from alexnet_tf1.runs import folder as runs


def commands(lines):
    """The commands among the lines, as their arguments are parsed: name and operands."""
    typed = [shlex.split(line) for line in lines if line.startswith("    ")]
    assert {words[0] for words in typed} <= {"alexnet-tf1"}
    parsed = [vars(parser().parse_args(words[1:])) for words in typed]
    return [(given.pop("command").__name__, given) for given in parsed]


@pytest.mark.parametrize("folder", ["runs/a", "my runs/it's $HOME", "-run"])
def test_a_large_gap_names_what_measures_and_what_mends_it(folder):
    (measure, measured), (mend, mended) = commands(next_steps.after_gap(folder, 44.9))
    assert (measure, mend) == ("diagnose", "recalibrate")
    assert {measured["run"], mended["run"]} == {folder if folder[0] != "-" else f"./{folder}"}


@pytest.mark.parametrize("points", [2.0, 0.3, -30.0, float("nan")])
def test_a_small_gap_names_nothing(points):
    assert next_steps.after_gap("runs/a", points) == []


def test_a_run_and_an_evaluation_with_a_large_gap_end_with_the_commands(capsys):
    found = {
        "dataset": {"name": "cifar10", "test_images": 10},
        "run": "runs/a",
        "checkpoint": "c",
        "batch_size": 5,
        "test_accuracy_full": 0.1,
        "batch_statistics_accuracy_full": 0.5,
        "gap_points": 40.0,
        **{"steps": 5, "wall_s": 1.0, "steps_per_s": 5.0, "peak_rss_mb": None, "stopped_by": None},
        "resumed_after_step": None,
    }
    run = runs.Run(runs.Path("runs/a"), runs.TrainConfig())
    for gap, expected in ((40.0, ["diagnose", "recalibrate"]), (0.1, [])):
        console.Console().conclude(run, {**found, "gap_points": gap})
        for text in (capsys.readouterr().out, output.evaluation({**found, "gap_points": gap})):
            assert [name for name, _ in commands(text.splitlines())] == expected


def recalibrated(*settings):
    accuracy = {setting: {"before": 0.1, "after": 0.5} for setting in settings}
    return {
        "run": "my run",
        "checkpoint": "my run/checkpoints/model.ckpt-5-recalibrated",
        "source": "my run/checkpoints/model.ckpt-5",
        "dataset": {"name": "cifar10", "test_images": 10},
        "images": 1_000,
        "test_accuracy_full": accuracy,
    }


def test_recalibrate_says_which_command_uses_the_new_statistics():
    text = output.recalibration(recalibrated("batch", "ema"))
    assert "evaluate, diagnose, predict and export use it" in text
    assert "train --resume goes on from the newest checkpoint of training" in text
    (name, with_all), (other, before) = commands(text.splitlines())
    assert name == other == "evaluate"
    assert with_all["run"] == before["run"] == "my run"
    assert (with_all["fc_batch_norm"], with_all["checkpoint"]) == ("ema", None)
    assert before["checkpoint"] == "my run/checkpoints/model.ckpt-5"
    ((_, before),) = commands(output.recalibration(recalibrated("ema")).splitlines())
    assert before["checkpoint"] == "my run/checkpoints/model.ckpt-5"


def test_with_several_workers_every_one_goes_on():
    assert next_steps.after_stop("runs/a", 1)[0] == "Go on with:"
    first, line = next_steps.after_stop("runs/a", 2)
    assert first == "On every worker, go on with:"
    ((name, given),) = commands([line])
    assert (name, given["run_dir"], given["resume"]) == ("train", "runs/a", True)
