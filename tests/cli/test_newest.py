"""Without RUN the commands take the newest run under runs/, and say which."""

import json
import os

import pytest

from alexnet_tf1.cli import main as cli
from alexnet_tf1.cli import output
from alexnet_tf1.gap import both_modes
from alexnet_tf1.gap import diagnose as diagnosing
from alexnet_tf1.gap import recalibrate as repair
from alexnet_tf1.serving import predict as prediction

FUNCTIONS = {
    "evaluate": (both_modes, "evaluate_run"),
    "diagnose": (diagnosing, "diagnose"),
    "recalibrate": (repair, "recalibrate"),
    "predict": (prediction, "predict"),
}


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A folder with two runs, of which the first by name is the newest: what each call is given."""
    monkeypatch.chdir(tmp_path)
    for name, began in (("a new", 2_000), ("b", 1_000), ("c", 3_000)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        if name != "c":  # no run
            (tmp_path / "runs" / name / "config.json").write_text("{}")
            os.utime(tmp_path / "runs" / name / "config.json", (began, began))
    for name in ("x.png", "y.png"):
        (tmp_path / name).touch()
    calls = []
    for module, name in FUNCTIONS.values():
        monkeypatch.setattr(
            module, name, lambda *given, **_: calls.append(given) or {"gap_points": 0}
        )
    return calls


@pytest.mark.parametrize("command", ["evaluate", "diagnose", "recalibrate"])
def test_the_newest_run_is_taken_where_none_is_named(command, asked, capsys):
    assert cli.main([command, "--json"]) == 0
    out, error = capsys.readouterr()
    assert json.loads(out) == {"gap_points": 0}
    assert error == "run: runs/a new, the newest under runs/\n"
    assert cli.main([command, "runs/b", "--json"]) == 0
    assert capsys.readouterr().err == ""
    assert [given[0] for given in asked] == ["runs/a new", "runs/b"]


@pytest.mark.parametrize(
    ("operands", "run", "images"),
    [
        (["x.png"], "runs/a new", ["x.png"]),
        (["x.png", "y.png"], "runs/a new", ["x.png", "y.png"]),
        (["x.png", "gone.png"], "runs/a new", ["x.png", "gone.png"]),
        (["runs/b", "x.png"], "runs/b", ["x.png"]),
        (["runs/b", "x.png", "y.png"], "runs/b", ["x.png", "y.png"]),
        (["runs/b", "--top=1", "x.png"], "runs/b", ["x.png"]),
        (["--top=1", "runs/b", "x.png", "--json", "y.png"], "runs/b", ["x.png", "y.png"]),
        (["gone", "x.png"], "gone", ["x.png"]),
        (["runs/b"], "runs/b", []),
        (["gone.png"], "runs/a new", ["gone.png"]),
    ],
)
def test_a_folder_is_a_run_and_a_file_an_image(operands, run, images, asked, capsys):
    assert cli.main(["predict", "--json", *operands]) == 0
    assert asked == [(run, images)]
    named = f"run: {run}, the newest under runs/\n" if run == "runs/a new" else ""
    assert capsys.readouterr().err == named


def test_operands_may_stand_on_both_sides_of_an_option(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("alexnet_tf1.reporting.compare.compare", lambda *given: {"given": given})
    assert cli.main(["compare", "a", "--json", "b"]) == 0
    assert json.loads(capsys.readouterr().out) == {"given": [["a", "b"], "."]}


def test_recalibrate_prints_its_result_as_data(asked, monkeypatch, capsys):
    monkeypatch.setattr(output, "recalibration", lambda found: "text")
    assert cli.main(["recalibrate", "runs/b"]) == 0
    assert capsys.readouterr().out == "text\n"
    assert cli.main(["recalibrate", "runs/b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"gap_points": 0}
