"""The parsers of all commands, and the types of their arguments. Imports no TensorFlow."""

import argparse
import difflib
import math
import sys
from collections.abc import Callable
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import alexnet_tf1
from alexnet_tf1.cli import commands
from alexnet_tf1.config import TrainConfig, option
from alexnet_tf1.reporting.text import one_line
from alexnet_tf1.system.terminal import show


def text(given: str) -> str:
    """Reads a name; an empty one, as an unset shell variable gives, is refused."""
    if not given.strip():
        raise argparse.ArgumentTypeError("nothing is given; leave the option out for its default")
    try:
        given.encode()
    except UnicodeEncodeError:  # TensorFlow takes no other
        raise argparse.ArgumentTypeError(f"{given} is not UTF-8; rename it") from None
    return given


def text_or_bool(given: str) -> str | bool:
    """Reads a name, or True or False."""
    return {"true": True, "false": False}.get(given.lower(), text(given))


def positive(given: str) -> int:
    """Reads a whole number of at least 1."""
    value = int(given)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too small; use at least 1")
    return value


def finite(given: str) -> float:
    """Reads a number that is neither infinite nor NaN."""
    value = float(given)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{given} is not a finite number")
    return value


finite.__name__ = "number"
positive.__name__ = "whole number"  # what argparse calls it in "invalid ... value"


Argument = tuple[str, dict[str, Any]]  # the name and the settings that add_argument takes


def value(
    name: str,
    metavar: str | None,
    summary: str,
    kind: Callable[[str], Any] = text,
    default: Any = None,
    **more: Any,
) -> Argument:
    """Describes an argument with a value, read by `kind`."""
    if default is not None:
        summary += f" (default: {default})"
    return name, {"type": kind, "metavar": metavar, "help": summary, "default": default, **more}


def switch(name: str, summary: str, **more: Any) -> Argument:
    """Describes an option without a value."""
    return name, {"action": "store_true", "help": summary, **more}


def setting(name: str, summary: str) -> Argument:
    """Describes the option of a field of TrainConfig.

    What is not typed stays out of the result: --resume compares what is with the run's settings.
    """
    kind, default = get_type_hints(TrainConfig)[name], getattr(TrainConfig, name)
    if kind is bool:
        action = argparse.BooleanOptionalAction
        summary += f" (default: {option(f'no_{name}')})"  # --help lists both, with one text
        return switch(option(name), summary, action=action, default=argparse.SUPPRESS)
    choices = get_args(kind) if get_origin(kind) is Literal else None
    read, metavar = {int: (int, "N"), float: (float, "X")}.get(kind, (text, "DIR"))
    name, settings = value(
        option(name), None if choices else metavar, summary, read, default, choices=choices
    )
    return name, {**settings, "default": argparse.SUPPRESS}


_SETTINGS = {
    "dataset": "auto: CIFAR-10 if it is there or can be downloaded, else the synthetic set",
    "data_dir": "folder of CIFAR-10 (default: $CIFAR10_DIR, else a per-user cache folder)",
    "steps": "training steps",
    "batch_size": "images in a training batch",
    "learning_rate": "learning rate of Adam",
    "seed": "fixes the order of the data and the initial weights",
    "update_ops": "control: train under a control dependency on UPDATE_OPS; none: forget it, so "
    "that the moving averages are never updated",
    "fc_batch_norm": "batch: the original, whose fully connected layers normalise with the test "
    "batch; ema: moving averages in inference",
    "log_every": "steps between [Train] lines",
    "test_every": "steps between [Test] lines",
    "test_batches": "test batches in a [Test] line",
    "checkpoint_every": "steps between checkpoints",
    "keep": "newest checkpoints kept",
    "run_dir": "folder for the run (default: a new one under runs/)",
    "fast": "many steps in one session call, with ops that are faster and round differently",
    "precision": "of the convolutions' products; variables stay float32",
    "recipe": "settings to begin with; options you give yourself win. original: the defaults "
    "listed here; quick: the original's accuracy in a fraction of its time; best: the highest "
    "accuracy within its time",
    "optimizer": "muon: Muon for the kernels of conv2 to conv5, Adam for the rest",
    "muon_rate": "learning rate of Muon",
    "kernels": "prepared: conv1 begins with what whitens the training images and is not trained, "
    "the other convolutions begin by passing their inputs on",
    "schedule": "one-cycle: the learning rates rise linearly, then fall linearly to 0",
    "warmup": "fraction of the steps in which a one-cycle rate rises",
    "flip": "mirror training images in every other epoch",
    "shift": "most pixels by which training images are moved",
    "label_smoothing": "fraction of a training label that is spread over all classes",
    "devices": "GPUs that share each batch; on a machine without one, parts of the CPU",
    "local_batch_norm": "normalise each device's part of a batch by itself",
    "worker_timeout": "seconds to wait for another worker of TF_CONFIG",
}

RUN = value("run", "RUN", "a run folder")
RUN_OR_NEWEST = value("run", "RUN", "a run folder (default: the newest under runs/)", nargs="?")
CHECKPOINT = value("--checkpoint", "STEP|PREFIX", "which checkpoint (default: the newest)")
ON_RUN = [
    RUN_OR_NEWEST,
    CHECKPOINT,
    value("--data-dir", "DIR", "folder of CIFAR-10 (default: the run's)"),
]
JSON = switch("--json", "print JSON only", dest="as_json")
ON_RUN_OR_MODEL = [
    value(
        "run",
        "RUN|MODEL",
        "a run folder (default: the newest under runs/); or of any TF1 model a checkpoint's prefix "
        "with its .meta file, or a SavedModel folder",
        nargs="?",
    ),
    value("--checkpoint", "STEP|PREFIX", "RUN: which checkpoint (default: the newest)"),
    value("--data-dir", "DIR", "RUN: folder of CIFAR-10 (default: the run's)"),
    value(
        "--feed",
        "NAME=FILE[:KEY]",
        "MODEL: what a placeholder or any other tensor is fed, an example along the first axis: a "
        ".npy file, or the array KEY of a .npz file; may be given again",
        action="append",
    ),
    value(
        "--set",
        "NAME=VALUE",
        "MODEL: what is fed with every batch, as a keep probability: a number, true or false; may "
        "be given again",
        action="append",
    ),
    value("--logits", "NAME", "MODEL: the output (default: found)"),
    value(
        "--is-training",
        "NAME",
        "MODEL: training switch, may be given again (default: found); True or False for a graph "
        "built with a constant",
        text_or_bool,
        action="append",
    ),
    value("--batch-size", "N", "MODEL: examples in a batch (default: 100)", positive),
    value("--examples", "N", "MODEL: how many, the first ones (default: all)", positive),
    switch(
        "--trust",
        "MODEL: run its graph though it touches files, processes or Python",
        default=None,
    ),
]

# The command, its line in the program's --help, and its arguments in the order of its own --help.
COMMANDS: dict[Callable[..., int], tuple[str, list[Argument]]] = {
    commands.train: (
        "train the network",
        [
            *(setting(name, summary) for name, summary in _SETTINGS.items()),
            switch("--resume", "go on with the run in --run-dir, as it began; --steps may grow"),
            switch("--quiet", "print the result only; warnings and errors go to standard error"),
        ],
    ),
    commands.evaluate: (
        "accuracy over the whole test set",
        [
            *ON_RUN,
            value("--batch-size", "N", "images in a batch (default: the run's)", positive),
            value("--fc-batch-norm", None, "default: the run's", choices=("batch", "ema")),
            switch(
                "--pictures", "write confusion.png, and worst.png of the surest errors, into RUN"
            ),
            switch("--flip", "also by the mean over each image and its mirror image: two passes"),
            JSON,
        ],
    ),
    commands.diagnose: (
        "measure the training-vs-inference gap, of a run or of any TF1 model",
        [
            *ON_RUN_OR_MODEL,
            value("--images", "N", "RUN: test images (default: 2000)", positive),
            value(
                "--labels",
                "FILE[:KEY]",
                "MODEL: class numbers of the examples, a file as of --feed; without them outputs "
                "are compared",
            ),
            value(
                "--out",
                "DIR",
                "folder for diagnose.json and diagnose.png (default: RUN; of a MODEL, this folder)",
            ),
            value(
                "--fail-gap",
                "POINTS",
                "exit with status 1 if batch-statistics accuracy is more than this many "
                "percentage points above inference accuracy",
                finite,
            ),
            JSON,
        ],
    ),
    commands.audit: (
        "check any TF1 graph for batch-normalisation faults",
        [
            value(
                "models",
                "MODEL",
                "a .meta file, a SavedModel, a frozen .pb, a graph.pbtxt, a checkpoint's prefix, "
                "or a folder that holds one of these",
                nargs="*",
            ),
            value("--explain", "RULE", "print the page of a rule, such as BN101, and nothing else"),
            value("--train-op", "NAME", "training op; may be given again", action="append"),
            value(
                "--logits",
                "NAME",
                "tensor that inference computes; may be given again",
                action="append",
            ),
            value(
                "--is-training",
                "NAME",
                "training switch, may be given again; True or False for a graph built with a "
                "constant",
                text_or_bool,
                action="append",
            ),
            switch("--training-only", "the graph only trains: leave the rules of inference out"),
            value(
                "--inference",
                "GRAPH",
                "the graph that infers, where it is another one: the rules of inference are "
                "applied to it, with --logits, and the others to the first",
            ),
            value("--tags", "TAG,...", "which graph of a SavedModel that holds several"),
            value("--signature", "NAME", "whose outputs are the logits, of a SavedModel"),
            value(
                "--select",
                "RULES",
                "check these alone: a rule, a prefix as BN2, or BN203:critic/* with layers; may be "
                "given again",
                action="append",
            ),
            value("--ignore", "RULES", "leave these out, in the same form", action="append"),
            JSON,
        ],
    ),
    commands.doctor: (
        "check any TF1 checkpoint's moving statistics",
        [value("checkpoint", "CHECKPOINT", "a prefix, file or folder"), JSON],
    ),
    commands.recalibrate: (
        "re-estimate population statistics (Precise-BN), of a run or of any TF1 model",
        [
            *ON_RUN_OR_MODEL,
            value(
                "--images", "N", "RUN: training images to estimate from (default: 1000)", positive
            ),
            value("--out", "PREFIX", "MODEL: the new checkpoint, with its .meta file"),
            value(
                "--saved-model",
                "DIR",
                "MODEL: also or instead a SavedModel for inference, in which each normalisation "
                "uses the estimated statistics; a new or empty folder",
            ),
            JSON,
        ],
    ),
    commands.predict: (
        "likeliest classes of image files",
        [
            RUN_OR_NEWEST,
            value("images", "IMAGE", "an image file", nargs="+"),
            CHECKPOINT,
            value("--top", "N", "classes to name", positive, 3),
            JSON,
        ],
    ),
    commands.export: (
        "write a SavedModel that serves",
        [
            RUN,
            value("target", "DIR", "folder to write; new or empty"),
            CHECKPOINT,
            switch("--tflite", "also write model.tflite, if TensorFlow can convert the network"),
            JSON,
        ],
    ),
    commands.env: ("versions, devices, data, and what to install", [JSON]),
    commands.compare: (
        "runs side by side, as a table and a picture",
        [
            value("folders", "RUN", "a run folder", nargs="+"),
            value("--out", "DIR", "folder for the two files; only its own are replaced", text, "."),
            JSON,
        ],
    ),
    commands.launch: (
        "train with several processes of this machine",
        [
            value("--workers", "N", "how many", positive, required=True),
            value("training", "-- train ...", "what each one does", str, nargs=argparse.REMAINDER),
        ],
    ),
}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, as all of this program's are.

    Operands may stand on both sides of an option: `predict RUN --top 1 IMAGE`.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Gives operands after an option to the argument that takes several; refuses the rest.

        A command's parser would pass that on to the program's, whose --help has no options.
        """
        found, left = super().parse_known_args(args, namespace)
        more = [operand for operand in left if operand and not operand.startswith("-")]
        several = [a.dest for a in self._actions if not a.option_strings and a.nargs in ("+", "*")]
        if more and several:
            getattr(found, several[0]).extend(more)
            left = [operand for operand in left if operand not in more]
        if left:
            name, known = left[0].partition("=")[0], self._option_string_actions
            near = difflib.get_close_matches(name, known, 1) if name.startswith("-") else []
            meant = f" (did you mean {near[0]}?)" if near else ""
            self.error(f"unrecognized arguments: {' '.join(left)}{meant}")
        return found, left

    def error(self, message: str) -> NoReturn:
        """Ends the process with one line and the status of bad usage."""
        show(one_line(f"error: {message}; see {self.prog} --help"), sys.stderr)
        raise SystemExit(commands.BAD_INPUT)


def parser() -> Parser:
    """Builds the parser, whose result is `command`, the function to call, and its arguments."""
    whole = Parser(
        prog="alexnet-tf1",
        description="A TF1-graph AlexNet for CIFAR-10, and tools for batch-normalisation faults.",
    )
    whole.add_argument("--version", action="version", version=alexnet_tf1.__version__)
    debug = "after an error of the program itself, show where; also after COMMAND"
    whole.add_argument("--debug", action="store_true", help=debug)
    group = whole.add_subparsers(required=True, metavar="COMMAND")
    for command, (summary, arguments) in COMMANDS.items():
        name, description = command.__name__, " ".join((command.__doc__ or "").split())
        added = group.add_parser(name, help=summary, description=description)
        added.set_defaults(command=command)
        for name, settings in arguments:
            added.add_argument(name, **settings)
        hidden = argparse.SUPPRESS  # and no default: it would undo what stands before COMMAND
        added.add_argument("--debug", action="store_true", default=hidden, help=hidden)
    return whole
