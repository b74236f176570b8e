"""The table of bad input: what is typed, what is made of the folder first, what the line says."""

from __future__ import annotations

import gzip
import os

import numpy as np

from support.bad_options import CHECKPOINT, META, OPERAND, OPTIONS
from support.mistakes import (
    Case,
    both,
    cifar10,
    copy,
    edit,
    flip,
    folder,
    grow,
    huge,
    locked,
    move,
    nothing,
    pipe,
    remove,
    write,
)  # fmt: skip

EMPTY = gzip.compress(b"")
NOISE = np.random.RandomState(5).bytes(4096)
INDEX = f"{CHECKPOINT}.index"
SHARD = f"{CHECKPOINT}.data-00000-of-00001"
DEEP = "[" * 100_000
ON_RUNS = ("evaluate", "diagnose", "recalibrate")


def options() -> list[Case]:
    return [
        Case((command, *OPERAND.get(command, ("run",)), f"{option}={value}"), (option,))
        for command, table in OPTIONS.items()
        for option, values in table.items()
        for value in values
    ]


USAGE = [
    Case((), ("COMMAND", "--help")),
    Case(("fly",), ("fly", "--help")),
    Case(("a\nb\x1b[2J",), (r"a\nb", "--help")),
    Case(("train", "stray"), ("stray", "--help")),
    Case(("train", "--steps"), ("--steps",)),
    Case(("launch", "--workers=65", "--", "train"), ("--workers 65",)),
    Case(("launch", "--workers=2"), ("takes a train command; write launch --workers N -- train",)),
    Case(("launch", "--workers=2", "--", "env"), ("takes a train command, not env; write",)),
    *[Case((c,), ("no RUN is given", "runs/")) for c in ON_RUNS],
    Case(("doctor",), ("required", "--help")),
    Case(("predict", "x.png"), ("no RUN is given", "runs/")),
    Case(("predict", "run"), ("no image is given",)),
    Case(("predict", "gone", "--top=1", "x.png"), ("gone", "run folder")),
    Case(("predict", "run", "--top=1", ""), ("unrecognized", "--help")),
    Case(("audit",), ("MODEL", "--explain", "--help")),
    *[Case((c, "run", "stray"), ("stray",)) for c in (*ON_RUNS, "doctor")],
    *[Case((c, ""), ("nothing is given",)) for c in (*ON_RUNS, "audit", "doctor")],
]

# ---- the run folder --------------------------------------------------------------------------

CONFIGS = {  # content: what the line says besides the file's name
    "": "not JSON",
    "{": "not JSON",
    '{"steps": 2': "not JSON",
    "\ufeff{}": "not JSON",
    "\0": "not JSON",
    "steps: 2": "not JSON",
    DEEP: "not JSON",
    '{"steps": ' + DEEP: "not JSON",
    '{"a":' * 50_000: "not JSON",
    '{"steps": ' + "9" * 5_000 + "}": "not JSON",
    "[]": "settings",
    "null": "settings",
    '"text"': "settings",
    "1e999": "settings",
    "NaN": "settings",
    '{"colour": "red"}': "settings",
    '{"__class__": "os.system"}': "settings",
    '{"steps": "many"}': "--steps",
    '{"steps": 2.0}': "--steps",
    '{"steps": NaN}': "--steps",
    '{"steps": true}': "--steps",
    '{"steps": null}': "--steps",
    '{"steps": 0}': "--steps",
    '{"steps": ' + "[" * 900 + "]" * 900 + "}": "config.json",
    '{"batch_size": -20}': "--batch-size",
    '{"keep": 1e30}': "--keep",
    '{"keep": 1' + "0" * 30 + "}": "--keep",
    '{"learning_rate": NaN}': "--learning-rate",
    '{"learning_rate": -Infinity}': "--learning-rate",
    '{"learning_rate": 1' + "0" * 400 + "}": "config.json",
    '{"seed": 1e3}': "--seed",
    '{"seed": 2147483648}': "--seed",
    '{"dataset": {}}': "--dataset",
    '{"dataset": ["auto"]}': "--dataset",
    '{"update_ops": 1}': "--update-ops",
    '{"data_dir": 3}': "--data-dir",
    '{"run_dir": ["run"]}': "--run-dir",
    '{"fast": 1}': "--fast",
    '{"precision": "float16"}': "--precision",
}
CONFIG = "run/config.json"
NO_RUN = {
    "missing": (remove("run"), "run"),
    "a file": (write("run", "a file"), "run"),
    "an empty folder": (folder("run"), "run"),
    "a folder for config.json": (folder(CONFIG), "run"),
    "random bytes in config.json": (write(CONFIG, NOISE), "config.json"),
    "a pipe for config.json": (pipe(CONFIG), "run"),
    "ten gigabytes in config.json": (huge(CONFIG), "config.json"),
    "a dangling link": (
        both(remove(CONFIG), lambda place: (place / CONFIG).symlink_to("gone")),
        "run",
    ),
    "a link to itself": (
        both(remove(CONFIG), lambda place: (place / CONFIG).symlink_to("config.json")),
        "run",
    ),
    "no checkpoints": (remove("run/checkpoints"), "checkpoint"),
    "a file for checkpoints": (write("run/checkpoints", ""), "checkpoint"),
    "empty checkpoints": (folder("run/checkpoints"), "checkpoint"),
    "no index": (remove(INDEX), "checkpoint"),
}


def run_folders() -> list[Case]:
    cases = []
    for command in ON_RUNS:
        for content, reason in CONFIGS.items():
            cases.append(Case((command, "run"), ("config.json", reason), write(CONFIG, content)))
        for make, name in NO_RUN.values():
            cases.append(Case((command, "run"), (name,), make))
        cases += [
            Case((command, "r" * 300), ("r" * 300,)),
            Case((command, "run\nx\x1b[2J"), (r"run\nx\x1b",)),
            Case((command, "run/config.json/below"), ("config.json/below",)),
            Case((command, "run"), ("config.json", "ermission"), locked(CONFIG), True),
        ]
    return cases


METRICS = "run/metrics.jsonl"
NO_RECORDS = {  # content: what the line says besides its place
    "null": "object",
    "[]": "object",
    "{": "JSON",
    DEEP: "JSON",
    "{}": "step",
    '{"step": "1"}': "step",
    '{"step": true}': "step",
    '{"step": -1}': "step",
    '{"step": 1' + "0" * 400 + "}": "step",
    '{"step": 1, "loss": "x"}': "loss",
    '{"step": 1, "loss": [1]}': "loss",
    '{"step": 1, "loss": NaN}': "loss",
    '{"step": 1, "images_per_s": 1' + "0" * 400 + "}": "images_per_s",
    '{"step": 1, "test_accuracy": 2}': "test_accuracy",
}

# ---- checkpoints, of commands that restore -----------------------------------------------------

OTHER = "other/model.ckpt-1"  # the test's fixture writes it: another network's


def checkpoints() -> list[Case]:
    cases = []
    for command in ON_RUNS:
        for chosen in ("1", "-5", "two", "nowhere/model.ckpt", "c" * 300, "run", META, SHARD):
            arguments = (command, "run", f"--checkpoint={chosen}")
            cases.append(Case(arguments, ("--checkpoint", chosen[:200])))
        few = () if command == "evaluate" else ("--images=5",)
        arguments = (command, "run", f"--checkpoint={OTHER}", *few)
        cases.append(Case(arguments, (OTHER, "another network")))
    for change in (lambda data: b"", lambda data: NOISE, lambda data: data[:-9], flip):
        cases.append(Case(("evaluate", "run"), ("model.ckpt-2",), edit(INDEX, change)))
    for change in (lambda data: b"", lambda data: data[:-9]):
        cases.append(Case(("evaluate", "run"), ("model.ckpt-2", "trunc"), edit(SHARD, change)))
    for make in (remove(SHARD), folder(SHARD)):
        cases.append(Case(("evaluate", "run"), ("model.ckpt-2",), make))
    for chosen in ((), ("--checkpoint=2",)):
        says = ("model.ckpt-2 is damaged (", "cannot be read: ", "--checkpoint")
        cases.append(Case(("evaluate", "run", *chosen), says, edit(SHARD, flip)))
    cases.append(Case(("evaluate", "run"), ("ermission",), locked(SHARD), True))
    cut = edit(SHARD, lambda data: data[:9])
    cases.append(Case(("diagnose", "run", "--images=5"), ("model.ckpt-2", "trunc"), cut))
    arguments = ("recalibrate", "run", "--images=5")
    cases.append(Case(arguments, ("model.ckpt-2",), edit(SHARD, flip)))
    return cases


# ---- data ------------------------------------------------------------------------------------

DATA = "data/cifar-10-batches-py"
ASKS = '{"dataset": "cifar10", "data_dir": "%s"}'
NO_DATA = {
    "a file": (write("data", ""), "data is not a folder"),
    "a cut batch": (cifar10(edit(f"{DATA}/data_batch_3", lambda d: d[:-99])), "data_batch_3"),
    "a cut test batch": (cifar10(edit(f"{DATA}/test_batch", lambda d: d[:5])), "test_batch"),
    "an empty batch": (cifar10(write(f"{DATA}/data_batch_1", "")), "data_batch_1 is empty"),
    "no pickle": (cifar10(write(f"{DATA}/data_batch_5", NOISE)), "data_batch_5"),
    "a folder": (cifar10(folder(f"{DATA}/test_batch")), "test_batch is a folder"),
    "a missing batch": (cifar10(remove(f"{DATA}/data_batch_2")), "data_batch_2 is missing"),
    "a pipe": (cifar10(pipe(f"{DATA}/data_batch_1")), "data_batch_1 cannot be read (Not a regular"),
    "bad names": (cifar10(write(f"{DATA}/batches.meta", b"\x80\x02}.")), "batches.meta"),
    "a pipe for an archive": (pipe("data/cifar-10-python.tar.gz"), "cifar-10-python.tar.gz"),
    "an archive and ten gigabytes": (
        both(write("data/cifar-10-python.tar.gz", EMPTY), grow("data/cifar-10-python.tar.gz")),
        "cifar-10-python.tar.gz",
    ),
    "no archive": (write("data/cifar-10-python.tar.gz", NOISE), "cifar-10-python.tar.gz"),
}


def data() -> list[Case]:
    train = ("train", "--dataset=cifar10", "--steps=1")
    cases = []
    for make, reason in NO_DATA.values():
        first = "unpacking" if reason.endswith(".gz") else "error: "
        for more in ((), ("--run-dir=new/run",)):
            arguments = (*train, "--data-dir=data", *more)
            cases.append(Case(arguments, (reason,), make, first=first))
        for command in ON_RUNS:
            there = both(write(CONFIG, ASKS % "data"), make)
            cases.append(Case((command, "run"), (reason,), there, first=first))
    for command in ON_RUNS:
        gone = write(CONFIG, ASKS % "gone/away")
        for more, name in ((), "gone/away"), (("--data-dir=data",), "data"):
            says = (f"{name} is not there", "--data-dir")
            cases.append(Case((command, "run", *more), says, gone))
        for name in (r"a\u0000b", r"\ud800", "d" * 300, "run/config.json/below"):
            cases.append(Case((command, "run"), ("--data-dir",), write(CONFIG, ASKS % name)))
    for command in ("diagnose", "recalibrate"):
        for size in ("41", "9" * 30):
            cases.append(Case((command, "run", f"--images={size}"), ("--images", size)))
    for dataset in ("auto", "cifar10"):
        for name in ("gone", "gone/away"):
            train = ("train", f"--dataset={dataset}", "--steps=1")
            says = (f"{name} is not there", "--data-dir")
            cases.append(Case((*train, f"--data-dir={name}"), says))
    cases.append(Case((*train, "--data-dir=" + "d" * 300), ("--data-dir", "too long")))
    locked_batch = cifar10(locked(f"{DATA}/data_batch_1"))
    cases.append(Case((*train, "--data-dir=data"), ("data_batch_1", "ermi"), locked_batch, True))
    return cases


# ---- where to write ----------------------------------------------------------------------------

SYNTHETIC = ("train", "--dataset=synthetic")
PLACES = [
    Case((*SYNTHETIC, "--run-dir=run"), ("--run-dir run", "not empty")),
    Case((*SYNTHETIC, f"--run-dir={CONFIG}"), ("--run-dir", CONFIG)),
    Case((*SYNTHETIC, f"--run-dir={CONFIG}/below"), ("--run-dir", CONFIG)),
    Case((*SYNTHETIC, "--run-dir=" + "r" * 300), ("--run-dir", "too long")),
    Case((*SYNTHETIC, "--run-dir=a/b/" + "r" * 300), ("--run-dir", "too long")),
    Case((*SYNTHETIC, "--run-dir=a\0b"), ("--run-dir", r"a\x00b")),
    Case((*SYNTHETIC, "--run-dir=r[1]"), ("r[1]", "rename")),
    Case((*SYNTHETIC, "--run-dir=/dev/null"), ("--run-dir", "/dev/null")),
    Case((*SYNTHETIC, "--batch-size=21"), ("--batch-size", "21", "20")),
    Case((*SYNTHETIC, "--batch-size=" + "9" * 30, "--run-dir=a/b/c"), ("--batch-size",)),
    Case((*SYNTHETIC,), ("runs",), write("runs", "")),
    Case(("diagnose", "run"), ("diagnose.json",), folder("run/diagnose.json")),
    Case(("diagnose", "run"), ("diagnose.png",), folder("run/diagnose.png")),
    Case(("evaluate", "run", "--pictures"), ("worst.png",), folder("run/worst.png")),
    Case(("compare", "run", "gone"), ("gone", "run folder")),
    Case(("compare", "run"), ("compare.md", "--out"), write("compare.md", "my notes")),
    Case(("compare", "run"), ("compare.png", "--out"), write("compare.png", "my picture")),
    Case(("compare", "run"), ("compare.md", "--out"), folder("compare.md")),
    Case(("compare", "run"), ("compare.md", "--out"), pipe("compare.md")),
    Case(("compare", *["run"] * 101), ("101", "100")),
    *[
        Case(("compare", "run"), ("metrics.jsonl", "line 1", reason), write(METRICS, f"{line}\n"))
        for line, reason in NO_RECORDS.items()
    ],
    Case(("compare", "run"), ("metrics.jsonl", "regular"), pipe(METRICS)),
    Case(
        ("recalibrate", "run", "--checkpoint=aside/model.ckpt-2"),
        ("checkpoints",),
        both(move("run/checkpoints", "aside"), write("run/checkpoints", "")),
    ),
    Case(
        ("recalibrate", "run", "--checkpoint=aside/model.ckpt-2"),
        ("checkpoints",),
        move("run/checkpoints", "aside"),
    ),
]

# ---- graphs and checkpoints of anybody ---------------------------------------------------------

GRAPHS = {
    "missing.meta": nothing,
    "folder": folder("folder"),
    "folder.meta": folder("folder.meta"),
    "empty.meta": write("empty.meta", ""),
    "noise.meta": write("noise.meta", NOISE),
    "text.meta": write("text.meta", "model_checkpoint_path: model\nnot a graph at all\n"),
    "pipe.meta": lambda place: os.mkfifo(place / "pipe.meta"),
    "huge.meta": huge("huge.meta"),
    "run/half.meta": both(copy(META, "run/half.meta"), edit("run/half.meta", lambda d: d[:20_000])),
    "/dev/zero": nothing,
    f"{META}/below": nothing,
    "g" * 300: nothing,
    "g\0h": nothing,
    CONFIG: nothing,
    "model": write("model/variables/variables.index", NOISE),
    "texts": write("texts/saved_model.pbtxt", "saved_model_schema_version: 1"),
    "blank": write("blank/saved_model.pb", ""),
    "noise": write("noise/saved_model.pb", NOISE),
    "nested": folder("nested/saved_model.pb"),
    "noise.pb": write("noise.pb", NOISE),
}
NO_TENSORS = {
    "--logits": ["nothing", "hits:²", "hits:x", "hits:", ":0", "hits:0:0", "hits:-1", "a\nb"],
    "--train-op": ["nothing", "Adam:²", ":", "^", "a\nb", "Adam:7:7"],
    "--is-training": ["nothing", "maybe", "is_training:²", ":0", "is_training:" + "9" * 5_000],
}
CHECKPOINTS = {
    "missing": nothing,
    "folder": folder("folder"),
    "empty": write("empty", ""),
    "empty.index": write("empty.index", ""),
    "noise": write("noise", NOISE),
    "noise.index": write("noise.index", NOISE),
    "text.meta": write("text.meta", "a text"),
    "pipe": lambda place: os.mkfifo(place / "pipe"),
    "huge": huge("huge"),
    "huge.index": huge("huge.index"),
    "/dev/zero": nothing,
    f"{INDEX}/below": nothing,
    "c" * 300: nothing,
    "c\0h": nothing,
    CONFIG: nothing,
    f"{CHECKPOINT}0": nothing,
    INDEX: edit(INDEX, lambda data: data[:-1]),
    SHARD: edit(SHARD, lambda data: data[:-1]),
    "run/checkpoints": edit(SHARD, lambda data: data[:100]),
    "state/checkpoint": write("state/checkpoint", ""),
}


def shown(name: str) -> str:
    """The name as the line spells it."""
    return name[:200].replace("\0", r"\x00").replace("\n", r"\n")


def files() -> list[Case]:
    cases = [Case(("audit", name), (shown(name),), make) for name, make in GRAPHS.items()]
    for option, names in NO_TENSORS.items():
        cases += [Case(("audit", META, f"{option}={name}"), (option,)) for name in names]
    for name, make in CHECKPOINTS.items():
        place = "model.ckpt-2" if name.startswith("run/checkpoints") else name
        place = place.removesuffix(".index")
        if name in (f"{INDEX}/below", f"{CHECKPOINT}0"):
            place = name
        cases.append(Case(("doctor", name), (shown(place),), make))
    cases.append(Case(("audit", META), (META, "ermission"), locked(META), True))
    cases.append(Case(("doctor", CHECKPOINT), ("ermission",), locked(INDEX), True))
    return cases


def table() -> list[Case]:
    """Every case."""
    return [
        *options(),
        *USAGE,
        *run_folders(),
        *checkpoints(),
        *data(),
        *PLACES,
        *files(),
    ]
