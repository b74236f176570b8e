"""What `train` prints where: quiet, loud, to a file, to a terminal with and without colours."""

import contextlib
import functools
import io
import json
import sys

import pytest
from support import bars, mistakes
from support.cifar10_files import write_folder
from support.small_network import make_small
from support.terminal import on_a_terminal

from alexnet_tf1.cli import main as cli
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data import cifar10, synthetic
from alexnet_tf1.data.load import load_dataset
from alexnet_tf1.recipes.presets import settings_from
from alexnet_tf1.reporting import console, progress
from alexnet_tf1.system import gpu

IDLE = gpu.not_used("no libcudnn.so.9", "2.21.0")
SHORT = ["--batch-size=4", "--log-every=1", "--test-every=2", "--checkpoint-every=2"]


@pytest.fixture(scope="module")
def small():
    """A synthetic set of 40 and 20 images, files of CIFAR-10 with 20 each, and no network."""

    def no_network(url, *_, **__):
        raise cifar10.DownloadError("no network in tests")

    with pytest.MonkeyPatch.context() as patch:
        generate = functools.partial(synthetic.generate, train_images=40, test_images=20)
        make_small(patch.setattr, generate)
        patch.setattr(cifar10, "IMAGES_PER_FILE", mistakes.IMAGES)
        patch.setattr(cifar10, "fetch", no_network)
        patch.setattr(gpu, "look", lambda: IDLE)
        yield


@pytest.fixture(scope="module")
def runs(small, tmp_path_factory):
    """A loud run on files that are not the published ones, its resumptions: out, error.

    The first finds the images by a variable, and the others in what it recorded.
    """
    place = tmp_path_factory.mktemp("console")
    write_folder(place / "data" / cifar10.FOLDER, mistakes.IMAGES)
    with pytest.MonkeyPatch.context() as patch:
        shown = bars.noted(patch)
        with pytest.MonkeyPatch.context() as at_first:
            at_first.chdir(place)
            at_first.setenv("CIFAR10_DIR", "data")
            loud = train(place / "run", *SHORT, "--steps=2")
        return {
            "loud": loud,
            "quiet": train(place / "run", "--quiet", "--resume", "--steps=3"),
            "further": train(place / "run", "--resume", "--steps=5"),
            "folder": place / "run",
            "data": place / "data",
            "bars": shown,
        }


def train(folder, *options):
    """Runs the command, its two outputs caught apart."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        assert cli.main(["train", f"--run-dir={folder}", *options]) == 0
    return out.getvalue().splitlines(), error.getvalue().splitlines()


def test_a_quiet_run_prints_its_result_only(runs):
    out, _ = runs["quiet"]
    assert len(out) == 2
    assert out[0].startswith("test accuracy on all 20 images of cifar10: ")
    assert out[1].startswith("1 step (3) in ")
    assert out[1].endswith(f"results in {runs['folder']}")


def test_a_quiet_run_does_not_hide_what_must_be_told(runs):
    _, error = runs["quiet"]
    assert len(error) == 2
    assert error[0].endswith("results are marked not verified")
    assert error[1] == f"warning: {IDLE.line}"


def test_a_run_records_the_folder_of_its_images(runs):
    config = json.loads((runs["folder"] / "config.json").read_text())
    assert (config["dataset"], config["data_dir"]) == ("cifar10", str(runs["data"]))


def test_a_resumed_run_counts_the_steps_that_it_took(runs):
    (line,) = [line for line in runs["loud"][0] if line.startswith("steps:")]
    assert line.split()[1:3] == ["2", "in"]
    (line,) = [line for line in runs["further"][0] if line.startswith("steps:")]
    assert line.split()[1:6] == ["2", "(4", "to", "5)", "in"]
    nothing_left = {"steps": 5, "resumed_after_step": 5, "wall_s": 0.0}
    assert console._steps(nothing_left) == "0 in 0 s"


def test_a_quiet_run_does_not_hide_the_stand_in(small, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for quiet in (True, False):
        load_dataset("auto", None, announce=console.Console(quiet=quiet).announce)
        out, error = capsys.readouterr()
        told, silent = (error, out) if quiet else (out, error)
        assert "Using the embedded SYNTHETIC set" in told
        assert silent == ""


def test_quiet_is_no_setting_of_the_run_and_the_idle_gpu_is_in_its_result(runs):
    assert "quiet" not in (runs["folder"] / "config.json").read_text()
    assert json.loads((runs["folder"] / "result.json").read_text())["gpu_note"] == IDLE.line


def test_a_loud_run_sums_up_before_and_after(runs):
    out, error = runs["loud"]
    folder = runs["folder"]
    assert error == []
    first = next(n for n, line in enumerate(out) if line.startswith("data set:"))
    last = next(n for n, line in enumerate(out) if line.startswith("tested:"))
    assert any("results are marked not verified" in line for line in out[:first])
    steps = [line for line in out if line.startswith("[")]
    assert [line.split(",")[0] for line in steps] == [
        "[Train] Step: 1", "[Train] Step: 2", "[Test] Step: 2",
    ]  # fmt: skip
    end = next(n for n, line in enumerate(out) if line.startswith("results in:")) + 1
    before, after = out[first : out.index(steps[0])], out[last:end]
    labels = [line.partition(":")[0] for line in before]
    assert labels == [
        "data set", "device", "parameters", "run folder", "training", "arithmetic", "versions",
        "note", "GPU",
    ]  # fmt: skip
    for block in (before, after):
        assert len({len(line) - len(line.partition(":")[2].lstrip()) for line in block}) == 1
    assert "not the published files" in before[0]
    assert before[7].endswith(
        "like the original, this model cannot judge one image alone (BN201); --fc-batch-norm ema "
        "avoids it"
    )
    assert "2 steps of 4 images, 0.08 epochs" in before[4]
    assert [line for line in before + after if str(folder) in line] == [before[3], after[-1]]


def test_a_recipe_says_what_is_not_the_original_s():
    assert console._recipe(TrainConfig()) == []
    ((label, text),) = console._recipe(settings_from({"recipe": "best"}))
    assert (label, text) == (
        "recipe",
        "best: Muon at 0.03 for conv2 to conv5, one-cycle rate, mirrored images, "
        "images moved by up to 2 pixels, labels smoothed by 0.1",
    )
    ((_, text),) = console._recipe(settings_from({"recipe": "quick"}))
    assert "prepared kernels, conv1 not trained" in text


def rows():
    console._show([("device", "x" * 200)], [("GPU", "idle [bold] :smile: 3")])


def test_colours_on_a_terminal_only_and_not_if_unwanted(monkeypatch, capsys):
    rows()
    plain = capsys.readouterr().out
    assert plain == f"device: {'x' * 200}\nGPU:    idle [bold] :smile: 3\n"
    assert "\x1b[36mdevice:" in on_a_terminal(rows, monkeypatch)
    for unwanted in ({"NO_COLOR": "1"}, {"NO_COLOR": "0"}, {"TERM": "dumb"}):
        assert on_a_terminal(rows, monkeypatch, **unwanted).replace("\r", "") == plain
    assert "\x1b[36m" in on_a_terminal(rows, monkeypatch, NO_COLOR="")  # empty: not set


def test_a_summary_breaks_between_words_and_stays_in_its_column(monkeypatch):
    row = [("note", f"{'two words ' * 10}end"), ("device", "CPU")]
    shown = on_a_terminal(lambda: console._show(row, []), monkeypatch, NO_COLOR="1")
    assert shown.splitlines() == [
        f"note:   {'two words ' * 7}".rstrip(),
        f"        {'two words ' * 3}end",
        "device: CPU",
    ]


def test_colours_are_not_forced_into_a_file(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    rows()
    assert "\x1b" not in capsys.readouterr().out


def bar(quiet=False, **more):
    with progress.bar(10, "steps", quiet=quiet, **more) as advance:
        advance(5)
        print("[Train] Step: 5, loss: 1.00000, acc:0.50000")


def test_a_run_has_a_bar_of_steps_and_one_of_the_images_of_its_final_test(runs):
    assert runs["bars"] == [
        (2, "steps", 0, False, "output", [1, 1]),
        (40, "images", 0, False, "output", [4] * 10),
        (3, "steps", 2, True, "output", [1]),
        (40, "images", 0, True, "output", [4] * 10),
        (5, "steps", 3, False, "output", [1, 1]),
        (40, "images", 0, False, "output", [4] * 10),
    ]


def test_a_bar_on_standard_error_leaves_standard_output_alone(monkeypatch, capsys):
    shown = on_a_terminal(lambda: bar(stream=sys.stderr), monkeypatch, stream="stderr")
    assert "/10" in shown
    assert "[Train]" not in capsys.readouterr().out  # above the bar
    assert (
        on_a_terminal(lambda: bar(quiet=True, stream=sys.stderr), monkeypatch).replace("\r", "")
        == LINE
    )


LINE = "[Train] Step: 5, loss: 1.00000, acc:0.50000\n"


def test_the_bar_on_a_terminal_only(monkeypatch, capsys):
    bar()
    assert capsys.readouterr().out == LINE
    shown = on_a_terminal(bar, monkeypatch)
    assert "/10" in shown
    assert "steps/s" in shown
    for hidden, environment in ((bar, {"TERM": "dumb"}), (lambda: bar(quiet=True), {})):
        assert on_a_terminal(hidden, monkeypatch, **environment).replace("\r", "") == LINE


def test_the_bar_has_no_colours_if_they_are_unwanted(monkeypatch):
    assert "\x1b[38;5" in on_a_terminal(bar, monkeypatch)
    assert "\x1b[38;5" not in on_a_terminal(bar, monkeypatch, NO_COLOR="1")
