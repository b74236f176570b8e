"""What `train` prints: a summary before its first step and after its last, and lines between."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from typing import Any

import rich.console
import tensorflow.compat.v1 as tf
from rich.text import Text

from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.batchnorm.audit import audit_graph
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.reporting import text as report
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.system import hardware
from alexnet_tf1.system.gpu import Finding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Console:
    """Where the lines of one training process go.

    Attributes:
      quiet: only the result goes to standard output, and what is announced to standard error.
    """

    quiet: bool = False

    def say(self, line: str) -> None:
        """Prints what the user may want to see go by."""
        if not self.quiet:
            print(line, flush=True)  # whoever pipes it into tee sees it now

    def announce(self, line: str) -> None:
        """Prints what the user must be told: a stand-in, a warning, what takes long."""
        print(line, file=sys.stderr if self.quiet else sys.stdout, flush=True)

    def introduce(self, run: runs.Run, data: Dataset, net: AlexNet, found: Finding) -> None:
        """Sums up, before the first step, what is trained on what and with what."""
        if self.quiet:
            # Who hides the GPU wants that; it is in result.json all the same.
            if found.note and found.state != "hidden":
                self.announce(f"warning: {found.note}")
            return
        warnings = [("GPU", found.note)] if found.note else []
        _show(_before(run, data, net), [*warnings, *_audit(net)])

    def conclude(self, run: runs.Run, result: dict[str, Any]) -> None:
        """Sums up, after the last step, what came out; in a line or two if quiet."""
        if result["stopped_by"] is not None:
            print(f"Stopped after step {result['steps']}; saved in {run.folder}")
        elif self.quiet:
            print(_in_one_line(result))
            print(f"{result['steps']:,} steps in {result['wall_s']:.0f} s; results in {run.folder}")
        else:
            _show(_after(run, result))


def _show(rows: Iterable[tuple[str, str]], warnings: Iterable[tuple[str, str]] = ()) -> None:
    """Prints rows under each other; on a terminal, the labels in colour.

    Rich knows a terminal, NO_COLOR and TERM=dumb. Nothing but colour is asked of it, so that
    without there is not one escape code, and lines are never wrapped.
    """
    rows, warnings = list(rows), list(warnings)
    terminal = rich.console.Console(force_terminal=sys.stdout.isatty(), highlight=False)
    for number, line in enumerate(report.aligned([*rows, *warnings])):
        label, colon, text = report.one_line(line).partition(":")
        colour = "cyan" if number < len(rows) else "yellow"
        terminal.print(Text.assemble((label + colon, colour), text), soft_wrap=True)


def _before(run: runs.Run, data: Dataset, net: AlexNet) -> list[tuple[str, str]]:
    config = run.config
    origin = "" if data.name == "synthetic" else ", not the published files"
    if data.verified:
        origin = ", the published files"
    variables = net.logits.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
    parameters = sum(variable.shape.num_elements() for variable in variables)
    versions = hardware.versions()
    return [
        (
            "data set",
            f"{data.name}{origin}, {len(data.train.labels):,} training and "
            f"{len(data.test.labels):,} test images",
        ),
        ("device", hardware.device()),
        ("parameters", f"{parameters:,} trainable in {len(variables)} variables"),
        ("run folder", str(run.folder)),
        ("training", _training(config, len(data.train.labels))),
        *_recipe(config),
        ("arithmetic", _arithmetic(config)),
        (
            "versions",
            f"alexnet_tf1 {versions['alexnet_tf1']}, TensorFlow {versions['tensorflow']}, "
            f"NumPy {versions['numpy']}, Python {versions['python']}",
        ),
    ]


def _training(config: TrainConfig, images: int) -> str:
    # The images that do not fill a batch are dropped before each new permutation.
    epochs = config.steps / (images // config.batch_size)
    return (
        f"{config.steps:,} steps of {config.batch_size:,} images, {epochs:.3g} epochs; "
        f"learning rate {config.learning_rate:g}, seed {config.seed}"
    )


def _recipe(config: TrainConfig) -> list[tuple[str, str]]:
    """What is not as the original trains, in a row; none for the original."""
    given = {
        f"Muon at {config.muon_rate:g} for conv2 to conv5": config.optimizer == "muon",
        f"{config.schedule} rate": config.schedule != "constant",
        "mirrored images": config.flip,
        f"images moved by up to {config.shift} pixels": config.shift > 0,
        f"labels smoothed by {config.label_smoothing:g}": config.label_smoothing > 0,
    }
    parts = [text for text, counts in given.items() if counts]
    return [("recipe", f"{config.recipe}: {', '.join(parts)}")] if parts else []


def _arithmetic(config: TrainConfig) -> str:
    rounding = "--fast, which rounds differently" if config.fast else "as the original"
    return f"{config.precision}, {rounding}"


# What the audit of the run's own graph can find, and which option asks for it.
_ASKED_FOR = {
    "BN101": "train_op never updates the moving averages of {}: --update-ops none asks for that",
    "BN201": "{} normalise with the test batch in inference: the original's --fc-batch-norm "
    "batch asks for that, ema mends it",
}


def _audit(net: AlexNet) -> list[tuple[str, str]]:
    """A row each for what is wrong with the graph that is about to be trained."""
    found = audit_graph(
        net.logits.graph, [net.train_op], logits=net.logits, is_training=net.is_training
    )
    rows = []
    for rule, text in _ASKED_FOR.items():
        layers = [fault.layer for fault in found.faults if fault.rule == rule]
        if layers:
            rows.append((f"audit, {rule}", text.format(" and ".join(layers))))
    return rows


def _after(run: runs.Run, result: dict[str, Any]) -> list[tuple[str, str]]:
    data = result["dataset"]
    rate, peak = result["steps_per_s"], result["peak_rss_mb"]
    stand_in = _stand_in(data["name"])  # in each line with an accuracy
    steps = f"{result['steps']:,} in {result['wall_s']:.0f} s"
    return [
        ("tested", f"all {data['test_images']:,} images of {data['name']}"),
        ("inference", f"{100 * result['test_accuracy_full']:.2f}% accuracy{stand_in}"),
        (
            "batch statistics",
            f"{100 * result['batch_statistics_accuracy_full']:.2f}% accuracy{stand_in}",
        ),
        ("gap", f"{result['gap_points']:+.2f} points"),
        ("steps", f"{steps}, {rate:.1f} a second" if rate else steps),
        *([("peak memory", f"{peak / 1000:.2f} GB")] if peak else []),
        ("results in", str(run.folder)),
    ]


def _in_one_line(result: dict[str, Any]) -> str:
    data = result["dataset"]
    return (
        f"test accuracy on all {data['test_images']:,} images of {data['name']}: "
        f"{100 * result['test_accuracy_full']:.2f}% in inference, "
        f"{100 * result['batch_statistics_accuracy_full']:.2f}% with batch statistics "
        f"(gap {result['gap_points']:+.2f} points)"
    )


def of(data: Dataset) -> str:
    """Names a stand-in in every line that quotes an accuracy; the original's lines are bare."""
    return _stand_in(data.name)


def _stand_in(name: str) -> str:
    return "" if name == "cifar10" else f" ({name})"
