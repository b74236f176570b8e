"""The command line: bad input is one line and exit 2, and nothing is written."""

import os
import subprocess
import sys

import pytest
from support.terminal import on_a_terminal

from alexnet_tf1.cli import main as cli
from alexnet_tf1.cli.arguments import parser
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.errors import UserError

BAD_TRAIN_OPTIONS = {
    "--steps": ["0", "-1", "x", "1.5", ""],
    "--batch-size": ["0", "-20", "x"],
    "--learning-rate": ["0", "-1", "nan", "inf", "x"],
    "--seed": ["-1", "2147483648", "x"],
    "--log-every": ["0", "x"],
    "--test-every": ["0", "x"],
    "--test-batches": ["0", "x"],
    "--checkpoint-every": ["0", "x"],
    "--keep": ["0", "x"],
    "--dataset": ["mnist", ""],
    "--update-ops": ["on"],
    "--fc-batch-norm": ["moving"],
    "--no-such-option": ["1"],
}


def run(capsys, *arguments):
    """Exit status and standard error of one command, in this process."""
    try:
        status = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code
    return status, capsys.readouterr().err


def assert_one_line(error, *parts):
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    for part in parts:
        assert part in error


@pytest.mark.parametrize(
    ("option", "value"), [(o, v) for o, values in BAD_TRAIN_OPTIONS.items() for v in values]
)
def test_bad_train_options_are_refused_in_one_line(option, value, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, error = run(capsys, "train", "--dataset", "synthetic", f"{option}={value}")
    assert status == 2
    assert_one_line(error, option)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["fly"], ["export"], ["train", "stray"]])
def test_bad_usage_is_refused_in_one_line(arguments, capsys):
    status, error = run(capsys, *arguments)
    assert status == 2
    assert_one_line(error, "--help")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["train", "--stepz", "3"], "--steps"),
        (["train", "--batchsize=3"], "--batch-size"),
        (["train", "-seed", "3"], "--seed"),
        (["audit", "x.meta", "--train-ops=a"], "--train-op"),
        (["evaluate", "run", "--colour"], None),
        (["evaluate", "run", "stray"], None),
    ],
)
def test_an_unknown_option_gets_the_command_s_own_help_and_the_nearest(arguments, meant, capsys):
    status, error = run(capsys, *arguments)
    assert status == 2
    assert_one_line(error, "unrecognized arguments: ")
    hint = f" (did you mean {meant}?)" if meant else ""
    assert error.endswith(f"{hint}; see alexnet-tf1 {arguments[0]} --help\n")


def test_missing_data_is_refused_and_leaves_no_run_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_text("no batch")
    status, error = run(capsys, "train", "--dataset", "cifar10", "--data-dir", tmp_path)
    assert status == 2
    assert_one_line(error, "cifar-10-batches-py")
    assert not list((tmp_path / "runs").glob("*"))


def test_a_run_folder_that_cannot_be_made_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    options = ["--dataset", "synthetic", "--run-dir", tmp_path / "file" / "run"]
    status, error = run(capsys, "train", *options)
    assert status == 2
    assert_one_line(error, "--run-dir", "file")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_run_folder_in_use_is_refused_and_kept(capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    status, error = run(capsys, "train", "--dataset", "synthetic", "--run-dir", tmp_path)
    assert status == 2
    assert_one_line(error, "--run-dir", "not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("nothing", None, "not a run folder"),
        ("config.json", "{", "not JSON"),
        ("config.json", "[]", "settings"),
        ("config.json", '{"steps": 1, "colour": "red"}', "settings"),
        ("config.json", '{"steps": "many"}', "--steps"),
        ("config.json", '{"batch_size": 0}', "--batch-size"),
        ("config.json", "{}", "no checkpoint"),
    ],
)
def test_evaluate_refuses_what_is_not_a_run(name, content, part, capsys, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    status, error = run(capsys, "evaluate", tmp_path)
    assert status == 2
    assert_one_line(error, str(tmp_path), part)


def test_evaluate_refuses_a_damaged_checkpoint(capsys, tmp_path):
    (tmp_path / "config.json").write_text('{"dataset": "synthetic"}')
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/checkpoint").write_text('model_checkpoint_path: "model.ckpt-1"\n')
    for name in ("model.ckpt-1.index", "model.ckpt-1.data-00000-of-00001"):
        (tmp_path / "checkpoints" / name).write_bytes(b"\x00garbage" * 100)
    status, error = run(capsys, "evaluate", tmp_path)
    assert status == 2
    assert_one_line(error, "model.ckpt-1", "damaged")


def test_help_and_bad_usage_do_not_import_tensorflow():
    program = (
        "import sys\n"
        "from alexnet_tf1.cli import main as cli\n"
        "for arguments in (['--help'], ['train', '--help'], ['evaluate', '--help'],\n"
        "                  ['train', '--steps', 'x'], ['--version']):\n"
        "    try: cli.main(arguments)\n"
        "    except SystemExit: pass\n"
        "heavy = {'tensorflow', 'matplotlib', 'rich', 'pooch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_garbage_collector_leaves_tensorflow_alone(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import gc, logging\nat_rest, get_logger = not gc.isenabled(), logging.getLogger\n"
    )
    program = (
        "import gc, sys\n"
        "from alexnet_tf1.cli.commands import import_tensorflow\n"
        "callers, frozen = [], [gc.get_freeze_count()]\n"
        "for again in range(2):\n"
        "    callers += [[] for _ in range(99)]\n"
        "    import_tensorflow()\n"
        "    frozen.append(gc.get_freeze_count())\n"
        "assert sys.modules['tensorflow'].at_rest and gc.isenabled()\n"
        "assert frozen[0] < frozen[1] == frozen[2], frozen\n"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr


def test_the_module_is_the_console_script():
    done = subprocess.run(
        [sys.executable, "-m", "alexnet_tf1", "--version"], capture_output=True, text=True
    )
    assert done.stdout.strip() == __import__("alexnet_tf1").__version__


SETTINGS = {
    "dataset": "auto",
    "data_dir": None,
    "steps": 10_000,
    "batch_size": 20,
    "learning_rate": 1e-3,
    "seed": 0,
    "update_ops": "control",
    "fc_batch_norm": "batch",
    "log_every": 500,
    "test_every": 5_000,
    "test_batches": 100,
    "checkpoint_every": 1_000,
    "keep": 3,
    "run_dir": None,
    "fast": False,
    "precision": "float32",
    "recipe": "original",
    "optimizer": "adam",
    "muon_rate": 0.02,
    "kernels": "random",
    "schedule": "constant",
    "warmup": 0.25,
    "flip": False,
    "shift": 0,
    "label_smoothing": 0.0,
    "devices": 1,
    "local_batch_norm": False,
    "worker_timeout": 120,
}


def test_every_option_of_train_is_a_setting_with_the_default_of_the_contract():
    (commands,) = (a for a in parser()._actions if isinstance(a.choices, dict))
    options = {action.dest for action in commands.choices["train"]._actions}
    assert options == {*SETTINGS, "help", "debug", "resume", "quiet"}
    assert {name: getattr(TrainConfig(), name) for name in SETTINGS} == SETTINGS


def test_what_is_not_typed_stays_out_for_resume_to_compare():
    parsed = vars(parser().parse_args(["train"]))
    parsed.pop("command")
    assert parsed == {"resume": False, "quiet": False, "debug": False}


@pytest.mark.parametrize(
    ("setting", "value"), [("steps", True), ("steps", 2.0), ("seed", "0"), ("run_dir", 3)]
)
def test_settings_of_another_type_are_refused(setting, value):
    with pytest.raises(UserError, match="is not of the type"):
        TrainConfig(**{setting: value})


@pytest.mark.parametrize(
    "arguments",
    [
        ["diagnose", "NOWHERE"],
        ["diagnose", "NOWHERE", "--images", "0"],
        ["diagnose", "NOWHERE", "--fail-gap", "wide"],
        ["recalibrate", "NOWHERE"],
        ["recalibrate", "NOWHERE", "--images", "-1"],
        ["audit", "NOWHERE.meta"],
        ["audit"],
        ["doctor", "NOWHERE"],
        ["doctor", "NOWHERE", "--images", "2"],
    ],
)
def test_the_tools_refuse_bad_input_in_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, error = run(capsys, *arguments)
    assert status == 2
    assert_one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_errors_are_broken_between_words_on_a_terminal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gone = "a folder that is not there " * 4
    shown = []
    for arguments in (["evaluate", gone], ["evaluate", "a", gone]):
        shown.append(on_a_terminal(lambda a=arguments: status(a), monkeypatch, stream="stderr"))
    for text in shown:
        first, *others = text.splitlines()
        assert first.startswith("error: ")
        assert others
        assert all(line.startswith("       ") and len(line) <= 80 for line in others)


def status(arguments):
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        return stop.code
