"""The command line: argparse, and one call a command. TensorFlow is imported in the call only."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TextIO, get_args, get_origin, get_type_hints

import alexnet_tf1
from alexnet_tf1.cli import arguments
from alexnet_tf1.cli import commands as run
from alexnet_tf1.config import TrainConfig, option
from alexnet_tf1.errors import UserError
from alexnet_tf1.reporting import text as report


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: the arguments after the program's name; None for those of this process.

    Returns:
      The exit status: 0 done, 1 faults were found, 2 bad usage or bad input (one line on
      standard error), 128 + N stopped by signal N.
    """
    given = vars(_parser().parse_args(argv))
    command: Callable[..., int] = given.pop("command")
    warnings.showwarning = _show_warning
    try:
        return command(**given)
    except UserError as error:
        print(report.one_line(f"error: {error}"), file=sys.stderr)
        return run.BAD_INPUT
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = arguments.Parser(
        prog="alexnet-tf1",
        description="A TF1-graph AlexNet for CIFAR-10, and tools for batch-normalisation faults.",
    )
    parser.add_argument("--version", action="version", version=alexnet_tf1.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_diagnose(commands)
    _add_audit(commands)
    _add_doctor(commands)
    _add_recalibrate(commands)
    _add_predict(commands)
    _add_export(commands)
    _add_env(commands)
    _add_compare(commands)
    _add_launch(commands)
    return parser


_TRAIN_HELP = {
    "dataset": "auto: CIFAR-10 if it is there or can be downloaded, else the synthetic set",
    "data_dir": "folder of CIFAR-10 (default: $CIFAR10_DIR, else a per-user cache folder)",
    "steps": "training steps",
    "batch_size": "images a step",
    "learning_rate": "of Adam",
    "seed": "fixes data order and initial weights",
    "update_ops": "control: train under a control dependency on UPDATE_OPS; none: forget it",
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
    "recipe": "the settings to begin with; other options count before them. original: those above; "
    "quick: the original's accuracy in a fraction of its time; best: the most in its time",
    "optimizer": "muon: for the kernels of conv2 to conv5, Adam for the rest",
    "muon_rate": "learning rate of Muon",
    "schedule": "one-cycle: the learning rates rise in a line, then fall in one to 0",
    "warmup": "part of the steps in which a one-cycle rate rises",
    "flip": "mirror training images in every other walk through the data",
    "shift": "most pixels by which training images are moved",
    "label_smoothing": "part of a training label that is spread over all classes",
    "weight_decay": "of the kernels: times Adam's rate, per step",
    "devices": "GPUs (without one: parts of the CPU) that share each batch",
    "local_batch_norm": "normalise each device's part of a batch by itself",
    "worker_timeout": "seconds to wait for another worker of TF_CONFIG",
}


def _add_train(commands: Any) -> None:
    parser = arguments.command(
        commands, "train", run.train, "train the network", "Trains the network."
    )
    hints = get_type_hints(TrainConfig)
    for field in dataclasses.fields(TrainConfig):
        hint = hints[field.name]
        if hint is bool:
            text = _TRAIN_HELP[field.name]
            parser.add_argument(
                option(field.name),
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help=text,
            )
            continue
        choices = get_args(hint) if get_origin(hint) is get_origin(hints["dataset"]) else None
        default = "" if field.default is None else f" (default: {field.default})"
        parser.add_argument(
            option(field.name),
            default=argparse.SUPPRESS,  # what was typed, --resume compares with the run's
            type=hint if hint in (int, float) else arguments.text,
            choices=choices,
            metavar=None if choices else _METAVARS.get(field.name, "N"),
            help=_TRAIN_HELP[field.name] + default,
        )

    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --run-dir, with its own settings; --steps may be larger",
    )
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="print the result only; warnings and errors go to standard error",
    )


_METAVARS = {
    "data_dir": "DIR",
    "run_dir": "DIR",
    "learning_rate": "RATE",
    "muon_rate": "RATE",
    "warmup": "PART",
    "label_smoothing": "PART",
    "weight_decay": "FACTOR",
    "worker_timeout": "SECONDS",
}


def _add_evaluate(commands: Any) -> None:
    parser = arguments.command(
        commands,
        "evaluate",
        run.evaluate,
        "accuracy over the whole test set",
        "Tests every image exactly once, in inference and in batch-statistics mode.",
    )
    arguments.add_run(parser)
    parser.add_argument(
        "--batch-size",
        type=arguments.positive,
        metavar="N",
        help="images a batch (default: the run's)",
    )
    parser.add_argument("--fc-batch-norm", choices=("batch", "ema"), help="default: the run's")
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="write confusion.png and worst.png, the images most surely misclassified, into RUN",
    )
    parser.add_argument(
        "--flip",
        action="store_true",
        help="also by the mean over each image and its mirror image: two passes an image",
    )
    arguments.add_json(parser)


def _add_diagnose(commands: Any) -> None:
    parser = arguments.command(
        commands,
        "diagnose",
        run.diagnose,
        "measure the training-vs-inference gap",
        "Measures accuracy on the same test images by statistics mode, test batch "
        "size and order, and says what is wrong. Writes diagnose.json and diagnose.png into RUN.",
    )
    arguments.add_run(parser)
    parser.add_argument(
        "--images",
        type=arguments.positive,
        default=2_000,
        metavar="N",
        help="test images (default: 2000)",
    )
    parser.add_argument(
        "--fail-gap",
        type=arguments.finite,
        metavar="POINTS",
        help="exit with status 1 if batch-statistics accuracy is more than this many percentage "
        "points above inference accuracy",
    )
    arguments.add_json(parser)


def _add_audit(commands: Any) -> None:
    parser = arguments.command(
        commands,
        "audit",
        run.audit,
        "check any TF1 graph for batch-normalisation faults",
        "Checks a graph without running it: are its moving averages updated by "
        "training and read by inference? Exit status 1 if not.",
    )
    parser.add_argument(
        "graph", type=arguments.text, metavar="GRAPH", help="a .meta file or a SavedModel"
    )
    parser.add_argument(
        "--train-op",
        action="append",
        type=arguments.text,
        metavar="NAME",
        help="training op; may be given again",
    )
    parser.add_argument(
        "--logits", type=arguments.text, metavar="NAME", help="what inference computes"
    )
    parser.add_argument(
        "--is-training",
        type=arguments.switch,
        metavar="NAME",
        help="the training switch; True or False for a graph built with a constant",
    )
    arguments.add_json(parser)


def _add_doctor(commands: Any) -> None:
    parser = arguments.command(
        commands,
        "doctor",
        run.doctor,
        "check any TF1 checkpoint's moving statistics",
        "Looks for moving statistics that were never updated or never saved; needs "
        "no graph. Exit status 1 if there are any.",
    )
    parser.add_argument(
        "checkpoint", type=arguments.text, metavar="CHECKPOINT", help="a prefix, file or folder"
    )
    arguments.add_json(parser)


def _add_recalibrate(commands: Any) -> None:
    parser = arguments.command(
        commands,
        "recalibrate",
        run.recalibrate,
        "re-estimate population statistics (Precise-BN)",
        "Estimates the normalisations' statistics from training images into a new "
        "checkpoint, from then on the run's newest. Weights are untouched; the others stay.",
    )
    arguments.add_run(parser)
    parser.add_argument(
        "--images",
        type=arguments.positive,
        default=1_000,
        metavar="N",
        help="training images to estimate from (default: 1000)",
    )


def _add_predict(commands: Any) -> None:
    parser = arguments.command(
        commands,
        "predict",
        run.predict,
        "likeliest classes of image files",
        "Classifies PNG, JPEG, BMP or GIF files of any size, each by itself: centre-cropped to a "
        "square and resized to 32 x 32. Refuses a model that normalises with the test batch.",
    )
    parser.add_argument("run", type=arguments.text, metavar="RUN", help="a run folder")
    parser.add_argument(
        "images", type=arguments.text, nargs="+", metavar="IMAGE", help="an image file"
    )
    arguments.add_checkpoint(parser)
    parser.add_argument(
        "--top",
        type=arguments.positive,
        default=3,
        metavar="N",
        help="classes to name (default: 3)",
    )
    arguments.add_json(parser)


def _add_export(commands: Any) -> None:
    parser = arguments.command(
        commands,
        "export",
        run.export,
        "write a SavedModel that serves",
        "Writes the network for inference: raw images in, probabilities and classes out, each "
        "image judged by itself. Refuses a model that would use batch statistics.",
    )
    parser.add_argument("run", type=arguments.text, metavar="RUN", help="a run folder")
    parser.add_argument(
        "target", type=arguments.text, metavar="DIR", help="folder to write; new or empty"
    )
    arguments.add_checkpoint(parser)
    parser.add_argument(
        "--tflite",
        action="store_true",
        help="also write model.tflite, if TensorFlow's converter takes the network",
    )
    arguments.add_json(parser)


def _add_env(commands: Any) -> None:
    parser = arguments.command(
        commands,
        "env",
        run.env,
        "versions, devices, data, and what to install",
        "Prints what a run finds on this machine. If there is an NVIDIA GPU that TensorFlow does "
        "not use, one line says why and what to install.",
    )
    arguments.add_json(parser)


def _add_compare(commands: Any) -> None:
    parser = arguments.command(
        commands,
        "compare",
        run.compare,
        "runs side by side, as a table and a picture",
        "Prints a Markdown table of runs, finished or not: the settings that differ, accuracies, "
        "time, memory. Writes it to compare.md and the runs' curves to compare.png.",
    )
    parser.add_argument(
        "folders", type=arguments.text, nargs="+", metavar="RUN", help="a run folder"
    )
    parser.add_argument(
        "--out",
        type=arguments.text,
        default=".",
        metavar="DIR",
        help="folder for the two files (default: the current one); only files that compare "
        "wrote are replaced",
    )
    arguments.add_json(parser)


def _add_launch(commands: Any) -> None:
    parser = arguments.command(
        commands,
        "launch",
        run.launch,
        "train with several processes of this machine",
        "Starts workers with a TF_CONFIG each, shows what they print, and stops all when one "
        "fails. For training on several machines, set TF_CONFIG there (docs/scale.md).",
    )
    parser.add_argument(
        "--workers", type=arguments.positive, required=True, metavar="N", help="how many"
    )
    parser.add_argument(
        "training",
        nargs=argparse.REMAINDER,
        metavar="-- train ...",
        help="the command of every worker",
    )


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Prints a warning as one plain line, without the place in the code."""
    print(f"warning: {message}", file=sys.stderr)
