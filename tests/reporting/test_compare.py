"""`compare`: the figures of hand-made runs, found again in the table and in the picture's files."""

from __future__ import annotations

import dataclasses
import html
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.read_only import make_read_only
from support.terminal import on_a_terminal

from alexnet_tf1 import files
from alexnet_tf1.cli import main as cli
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.errors import UserError
from alexnet_tf1.reporting import compare_plot, compare_table, plots
from alexnet_tf1.reporting import text as report
from alexnet_tf1.reporting.compare import compare, labels
from alexnet_tf1.runs import folder as runs

FIGURES: dict[str, Any] = {
    "final_loss": 0.75,
    "test_accuracy_full": 0.5,
    "batch_statistics_accuracy_full": 0.7525,
    "gap_points": 25.25,
    "wall_s": 1234.4,
    "steps_per_s": 8.26,
    "peak_rss_mb": 1961.8,
    "device": "CPU, 2 cores",
}


def make(folder: Path, *, result: dict[str, Any] | None = None, logged=(100, 200), **config) -> str:
    """A run folder as `train` writes it; `result` None leaves it unfinished."""
    folder.mkdir(parents=True)
    settings = TrainConfig(**{"dataset": "cifar10", "steps": 200, "run_dir": str(folder), **config})
    run = runs.Run(folder, settings)
    runs.save_config(run)
    for step in logged:
        run.log(step=step, loss=2.0 - step / 200, accuracy=0.25, images_per_s=100.0)
        run.log(step=step, note="of another version", loss=None)
        run.log(step=step, test_accuracy=0.4, batch_statistics_accuracy=0.6)
    if result is not None:
        data = {"name": settings.dataset, "verified": True, "test_images": 10_000}
        run.write_result({"dataset": data, "steps": logged[-1], **FIGURES, **result})
    return str(folder)


@pytest.fixture
def undrawn(monkeypatch):
    """Spares the half second that a picture takes."""
    monkeypatch.setattr(compare_plot, "draw", lambda found, metrics, path, software: path.touch())


def size(count: int) -> tuple[int, int]:
    """Pixels of the picture of comparable runs."""
    return 1600, int(sum(compare_plot.heights(count, comparable=True)) * plots.DPI)


def cells(table: str) -> list[dict[str, str]]:
    """A Markdown table read by GitHub's rules: a cell ends at each bar without a backslash."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    head, rule, *rows = [
        [cell.strip() for cell in line.strip("|").replace("\\|", "\0").split("|")] for line in lines
    ]
    assert all(set(cell) == {"-"} for cell in rule)
    assert {len(row) for row in rows} == {len(head)} == {len(rule)}
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_the_table_holds_the_figures_and_the_settings_that_differ(tmp_path, capsys):
    first = make(tmp_path / "a", result={})
    second = make(
        tmp_path / "b", result={"test_accuracy_full": 0.75, "gap_points": -0.004}, seed=7, fast=True
    )
    assert cli.main(["compare", first, second, "--out", str(tmp_path / "new/out")]) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    page = (tmp_path / "new/out/compare.md").read_text(encoding="utf-8")
    assert cells(page) == cells(out)
    one, other = cells(out)
    same = {
        "steps": "200", "loss (nats)": "0.7500", "batch statistics (%)": "75.25",
        "time (s)": "1,234", "steps/s": "8.3", "memory (MB)": "1,962",
        "device": "CPU, 2 cores",
    }  # fmt: skip
    mine = {"run": "a", "--seed": "0", "--fast": "False", "gap (points)": "+25.25"}
    assert one == {**same, **mine, "inference (%)": "50.00"}
    mine = {"run": "b", "--seed": "7", "--fast": "True", "gap (points)": "-0.00"}
    assert other == {**same, **mine, "inference (%)": "75.00"}
    assert page.count("\n# 2 runs on cifar10\n") == 1
    with Image.open(tmp_path / "new/out/compare.png") as image:
        image.load()
        assert (image.format, image.size) == ("PNG", size(2))


@pytest.mark.usefixtures("undrawn")
def test_on_a_terminal_the_table_is_divided_so_that_no_line_breaks(tmp_path, monkeypatch):
    folders = [make(tmp_path / name, result={}, seed=len(name)) for name in ("2026-11-26_05", "b")]
    options = ["--out", str(tmp_path / "out")]
    shown = on_a_terminal(lambda: cli.main(["compare", *folders, *options]), monkeypatch)
    lines = [line for line in shown.splitlines() if line.startswith("|")]
    assert max(map(len, lines)) <= 80
    tables = [cells(part) for part in shown.replace("\r", "").split("\n\n") if "|" in part]
    assert [[row["run"] for row in table] for table in tables] == [["2026-11-26_05", "b"]] * 3
    whole = cells((tmp_path / "out/compare.md").read_text(encoding="utf-8"))
    for number, row in enumerate(whole):
        assert {k: v for table in tables for k, v in table[number].items()} == row


@pytest.mark.usefixtures("undrawn")
def test_what_is_only_said_or_saved_more_often_has_no_column(tmp_path):
    names = [make(tmp_path / "a", result={}), make(tmp_path / "b", result={}, log_every=7, keep=9)]
    assert compare(names, str(tmp_path))["differing"] == []


@pytest.mark.usefixtures("undrawn")
def test_settings_that_are_alike_have_no_column(tmp_path):
    names = [make(tmp_path / name, result={}, data_dir=name) for name in "ab"]
    assert compare(names, str(tmp_path))["differing"] == []


@pytest.mark.usefixtures("undrawn")
def test_runs_that_are_not_finished(tmp_path):
    names = [
        make(tmp_path / "killed", logged=(100,)),
        make(tmp_path / "new", logged=()),
        # Its result is of a stop at step 100; it went on and was killed, or still runs.
        make(tmp_path / "stale", result={"steps": 100, "final_loss": 9.0}),
        make(tmp_path / "resumed", result={"resumed_after_step": 150}),
        make(tmp_path / "stopped", result={**dict.fromkeys(FIGURES), "stopped_by": 2}),
    ]
    with open(tmp_path / "killed/metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 15')  # a kill cut the line short
    killed, new, stale, resumed, stopped = cells(
        compare_table.comparison_table(compare(names, str(tmp_path / "out")))
    )
    assert (killed["steps"], killed["loss (nats)"]) == ("100 of 200", "1.5000")
    assert killed["inference (%)"] == killed["device"] == compare_table.UNKNOWN
    assert (new["steps"], new["loss (nats)"]) == ("0 of 200", compare_table.UNKNOWN)
    assert (stale["steps"], stale["loss (nats)"]) == ("200, untested", "1.0000")
    assert stale["gap (points)"] == compare_table.UNKNOWN
    assert resumed["time (s)"] == "1,234 since step 150"
    assert (stopped["steps"], stopped["time (s)"]) == ("200, untested", compare_table.UNKNOWN)


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "synthetic"},
        {"result": {"dataset": {"name": "cifar10", "verified": False}}},
        {"crc": 2},
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_runs_of_different_data_are_said_to_be_so_in_every_figure(other, tmp_path):
    crc, settings = other.get("crc", 1), {k: v for k, v in other.items() if k != "crc"}
    names = [make(tmp_path / "a", result={}), make(tmp_path / "b", **{"result": {}, **settings})]
    for name, checksum in zip(names, (1, crc), strict=True):
        data = {"name": settings.get("dataset", "cifar10"), "crc32_of_train_images": checksum}
        files.write_json(Path(name) / "data.json", data)
    found = compare(names, str(tmp_path / "out"))
    text = compare_table.comparison_table(found)
    assert not found["comparable"]
    assert compare_table.NOT_COMPARABLE in text.splitlines()
    assert "# 2 runs on different data sets" in text
    for row, data in zip(cells(text), (row["dataset"] for row in found["runs"]), strict=True):
        for column in ("inference (%)", "batch statistics (%)", "gap (points)"):
            assert row[column].endswith(data)
    assert len({row["dataset"] for row in found["runs"]}) == 2


@pytest.mark.usefixtures("undrawn")
def test_a_run_whose_files_are_not_known_yet_is_comparable_to_those_of_the_same_name(tmp_path):
    unverified = {"dataset": {"name": "cifar10", "verified": False}}
    names = [make(tmp_path / "a", result=unverified), make(tmp_path / "b")]
    found = compare(names, str(tmp_path / "out"))
    assert found["comparable"]
    assert found["runs"][1]["dataset"] == "cifar10, not the published files"


def test_labels_tell_folders_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert labels(["runs/a", "runs/b/"]) == ["a", "b"]
    assert labels(["x/one/run", "x/two/run"]) == ["one/run", "two/run"]
    assert labels(["x/one/run", "x/one", "one"])[1:] == ["x/one", f"{tmp_path.name}/one"]
    assert labels(["a", "./a", "b", "a"]) == ["a", "a (2)", "b", "a (3)"]
    assert labels(["a", "a", "a (2)"]) == ["a", "a (2)", "a (2) (2)"]


HOSTILE = ["a|b", "a\\|b", "a\nb", "`c`", "_x_", "<b>", "$\\frac$", "[l](u)", "日本", "w" * 200]


def test_hostile_names_end_no_cell_and_open_no_markup(tmp_path, capsys):
    names = [make(tmp_path / name, result={"device": "<i>|x|"}) for name in HOSTILE]
    assert cli.main(["compare", *names, "--out", str(tmp_path / "out")]) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    rows = cells(out)
    assert [html.unescape(row["run"]) for row in rows] == [report.one_line(n) for n in HOSTILE]
    assert not set("".join(row["run"] + row["device"] for row in rows)) & set("|\\`<>[]*$")
    assert rows[4]["run"] == "&#95;x&#95;"
    assert report.plain_markdown("orig_s0") == "orig_s0"


@pytest.mark.parametrize("count", [1, 12])
def test_the_picture_has_the_size_it_says(count, tmp_path):
    name = make(tmp_path / "run", result={} if count == 1 else None)
    found = compare([name] * count, str(tmp_path))
    with Image.open(found["files"][1]) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", size(count))


def test_a_folder_that_cannot_be_written_to_has_its_remedy(tmp_path, monkeypatch):
    name = make(tmp_path / "a", result={})
    make_read_only(monkeypatch)
    with pytest.raises(UserError, match=r"cannot be written to .* name another folder: --out"):
        compare([name], str(tmp_path))


@pytest.mark.usefixtures("undrawn")
def test_only_its_own_files_are_replaced(tmp_path, monkeypatch):
    def small(found: Any, metrics: Any, path: Path, software: str) -> None:
        plots.save(plots.Figure(figsize=(1, 1)), path, software)

    monkeypatch.setattr(compare_plot, "draw", small)
    name = make(tmp_path / "run")
    compare([name], str(tmp_path / "out"))
    runs.Run(Path(name), TrainConfig()).log(step=300, loss=0.125, accuracy=0.5)
    compare([name], str(tmp_path / "out"))
    assert "0.1250" in (tmp_path / "out/compare.md").read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"compare.md", "compare.png"}
    for file in ("compare.md", "compare.png"):
        before = (tmp_path / "out" / file).read_bytes()
        (tmp_path / "out" / file).write_bytes(b"mine")
        with pytest.raises(UserError, match=f"{file} was not written by compare"):
            compare([name], str(tmp_path / "out"))
        assert (tmp_path / "out" / file).read_bytes() == b"mine"
        (tmp_path / "out" / file).write_bytes(before)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("result.json", '{"steps": 200, "gap_points": "wide"}', "gap_points"),
        ("result.json", '{"steps": 200, "wall_s": NaN}', "wall_s"),
        ("result.json", '{"steps": 200, "wall_s": 1' + "0" * 400 + "}", "wall_s"),
        ("result.json", '{"steps": 200, "final_loss": true}', "final_loss"),
        ("result.json", '{"steps": 200, "dataset": {"name": ["x"]}}', "data set"),
        ("result.json", "[]", "result.json"),
        ("metrics.jsonl", '{"step": 1, "loss": {}}\n', "line 1: loss"),
        ("result.json", '{"steps": 200, "test_accuracy_full": 72.5}', "test_accuracy_full"),
        ("metrics.jsonl", '{"step": 1, "loss": 1e300}\n', "line 1: loss"),
        ("metrics.jsonl", '{"step": 1' + "0" * 30 + "}\n", "line 1 names no step"),
        ("metrics.jsonl", '{"loss": 1.0}\n', "line 1 names no step"),
        ("metrics.jsonl", "{\n", "line 1"),
        ("data.json", '{"name": "mnist"}', "data set"),
    ],
)
def test_damaged_files_are_one_line(file, content, says, tmp_path, capsys):
    name = make(tmp_path / "run")
    (tmp_path / "run" / file).write_text(content)
    assert cli.main(["compare", name, "--out", str(tmp_path / "out")]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert len(errors.splitlines()) == 1
    assert errors.startswith("error: ")
    assert says in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_json_is_one_document(tmp_path, capsys):
    name = make(tmp_path / "run", result={})
    assert cli.main(["compare", name, name, "--json", "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["label"] for row in found["runs"]] == ["run", "run (2)"]
    assert found["runs"][0]["test_accuracy_full"] == FIGURES["test_accuracy_full"]
    assert [Path(path).name for path in found["files"]] == ["compare.md", "compare.png"]


def test_it_needs_no_tensorflow():
    code = "import sys, alexnet_tf1.reporting.compare; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_setting_is_compared_but_where_things_are():
    from alexnet_tf1.reporting.compare import NOT_COMPARED

    assert set(NOT_COMPARED) <= {field.name for field in dataclasses.fields(TrainConfig)}
