"""diagnose, audit, doctor, recalibrate and evaluate on a run, as commands: output and status."""

import functools
import json

import pytest
from support import bars
from support.small_network import make_small

from alexnet_tf1.cli import main as cli
from alexnet_tf1.cli.arguments import parser
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data import synthetic
from alexnet_tf1.gap import diagnose as diagnosing
from alexnet_tf1.gap.recalibrate import RECALIBRATION_IMAGES
from alexnet_tf1.runs.folder import open_run
from alexnet_tf1.supervisor.run import run_training

DATA = ".data-00000-of-00001"
NAMES = ["--train-op", "train_op", "--logits", "dense_2/BiasAdd", "--is-training", "is_training"]


@pytest.fixture(scope="module", autouse=True)
def fewer_images():
    """Most of the time here goes into testing images and estimating statistics from them."""
    generate = functools.partial(synthetic.generate, train_images=100, test_images=100)
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch.setattr, generate)
        yield


@pytest.fixture(scope="module")
def runs(fewer_images, tmp_path_factory):
    """Short runs with moving averages in all four normalisations, right and sabotaged."""
    folder = tmp_path_factory.mktemp("tools")
    for update_ops in ("control", "none"):
        run_training(
            TrainConfig(
                dataset="synthetic", steps=125, test_every=125, batch_size=8, test_batches=5,
                fc_batch_norm="ema", update_ops=update_ops, run_dir=str(folder / update_ops),
            )
        )  # fmt: skip
    return folder


@pytest.fixture(params=["control", "none"])
def run(runs, request):
    return runs / request.param


@pytest.fixture
def right(run):
    return run.name == "control"


def command(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def as_json(capsys, *arguments):
    status, out, _ = command(capsys, *arguments, "--json")
    return status, json.loads(out)  # one document and nothing else


def test_audit_by_name_and_as_json(run, right, capsys):
    graph = run / "checkpoints/model.ckpt-125.meta"
    status, out, _ = command(capsys, "audit", graph, *NAMES)
    assert status == (0 if right else 1)
    assert out.rstrip().endswith("no faults found" if right else "4 faults found")
    status, found = as_json(capsys, "audit", graph, *NAMES)
    assert status == (0 if right else 1)
    assert found["graph"] == str(graph)
    assert [layer["name"] for layer in found["layers"]] == [
        "batch_normalization", "batch_normalization_1", "batch_normal", "batch_normal_1",
    ]  # fmt: skip
    assert "batch_normalization/moving_mean" in found["layers"][0]["moving_averages"]
    assert {fault["rule"] for fault in found["faults"]} == (set() if right else {"BN101"})
    for fault in found["faults"]:
        assert set(fault) == {"rule", "layer", "message"}


def test_audit_finds_the_names_itself(run, right, capsys):
    status, found = as_json(capsys, "audit", run / "checkpoints/model.ckpt-125.meta")
    assert status == (0 if right else 1)
    assert len(found["faults"]) == (0 if right else 4)
    assert found["notes"]


def test_doctor_on_the_run_and_on_its_checkpoint(run, right, capsys):
    for path in (run, run / "checkpoints", run / "checkpoints/model.ckpt-125"):
        status, found = as_json(capsys, "doctor", path)
        assert status == 1
        assert len(found["layers"]) == 4
        # 0.99 to the power of 125 is 0.28; the other two layers debias their averages.
        expected = ["CK104"] * 2 if right else ["CK101"] * 4
        assert [f["rule"] for f in found["faults"]] == expected
    _, out, _ = command(capsys, "doctor", run)
    assert ("2 faults found" if right else "4 faults found") in out


def test_diagnose_measures_explains_and_draws(run, right, capsys, monkeypatch):
    shown = bars.noted(monkeypatch)
    status, found = as_json(capsys, "diagnose", run, "--images", "20", "--fail-gap", "20")
    assert status == (1 if found["gap_points"] > 20 else 0)
    assert json.loads((run / "diagnose.json").read_text()) == found
    ((total, *bar, counts),) = shown
    assert bar == ["images", 0, False, "error"]
    assert sum(counts) == total > 100
    assert (run / "diagnose.png").read_bytes().startswith(b"\x89PNG")
    assert found["repeatable"] is True
    assert found["changed_variables"] == []
    inference = {c["accuracy"] for c in found["cells"] if c["mode"] == "inference"}
    assert len(inference) == 1  # with moving averages, whatever the company
    batch = {c["accuracy"] for c in found["cells"] if c["mode"] == "batch statistics"}
    assert len(batch) > 1
    for layer in found["layers"]:
        assert layer["lag"] == (1 if not right else pytest.approx(layer["lag"]))
        assert (layer["lag"] < 0.3) == right
    rules = {fault["rule"] for fault in found["faults"]}
    assert rules == ({"CK104"} if right else {"BN101", "CK101"})
    assert right or "never updated the moving averages" in found["verdict"][0]
    # The same document once more, as text; measuring it again would tell no more.
    monkeypatch.setattr(diagnosing, "diagnose", lambda *_, **__: found)
    for limit, expected in ((found["gap_points"] - 1, 1), (found["gap_points"], 0)):
        status, out, _ = command(capsys, "diagnose", run, f"--fail-gap={limit}")
        assert status == expected
        assert f"gap: {found['gap_points']:+.2f} points" in out
        assert "synthetic" in out


def test_recalibrate_repairs_what_evaluate_then_reads(runs, capsys, monkeypatch):
    run = runs / "none"
    shown = bars.noted(monkeypatch)
    before = json.loads((run / "result.json").read_text())
    left = [run / f"checkpoints/model.ckpt-125-recalibrated-2{end}" for end in (".meta", DATA)]
    for path in left:  # by one that was killed
        path.write_bytes(b"x")
    status, out, _ = command(capsys, "recalibrate", run, "--images", "100")
    assert status == 0
    assert not any(path.exists() for path in left)
    assert "model.ckpt-125-recalibrated" in out
    _, after = as_json(capsys, "evaluate", run)
    assert [bar[1:5] for bar in shown] == [("images", 0, False, "error")] * 2
    for total, *_, counts in shown:  # of both commands; each tests 100 images twice
        assert sum(counts) == total == 200
    assert after["checkpoint"].endswith("-recalibrated")
    assert f"{100 * after['test_accuracy_full']:.2f}%" in out
    assert after["batch_statistics_accuracy_full"] == before["batch_statistics_accuracy_full"]
    # The sabotaged graph stays at fault, the checkpoint does not.
    assert as_json(capsys, "doctor", run)[0] == 0
    _, diagnosis = as_json(capsys, "diagnose", run, "--images", "5")
    assert "were recalibrated" in diagnosis["verdict"][0]
    status, _, error = command(capsys, "evaluate", run, "--checkpoint", "7")
    assert status == 2
    assert error.rstrip().endswith(f"{run} has 125, 125-recalibrated")
    command(capsys, "recalibrate", run, "--images", "20")  # again: beside the first, which stays
    assert open_run(str(run)).checkpoint().endswith("-recalibrated-2")
    assert (run / "checkpoints/model.ckpt-125-recalibrated.index").exists()


def test_more_images_than_there_are_are_refused(run, capsys):
    for name in ("diagnose", "recalibrate"):
        status, _, error = command(capsys, name, run, "--images", "5001")
        assert status == 2
        assert error.startswith("error: --images 5001 is not in 1 to ")


def test_the_defaults_that_the_help_names_are_the_functions():
    (commands,) = (a for a in parser()._actions if isinstance(a.choices, dict))
    for name, count in (
        ("diagnose", diagnosing.DIAGNOSIS_IMAGES),
        ("recalibrate", RECALIBRATION_IMAGES),
    ):
        (images,) = (a for a in commands.choices[name]._actions if a.dest == "images")
        assert images.help.endswith(f"(default: {count})")
        assert images.default is None  # what is not typed is the function's
