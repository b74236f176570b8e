"""Prints what a training run tells: lines as it goes, a summary before and after."""

import dataclasses
import sys
from typing import Any

import rich.console
import tensorflow.compat.v1 as tf
from rich.text import Text

from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.batchnorm.audit import audit_graph
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.reporting import next_steps
from alexnet_tf1.reporting.text import aligned, listed, one_line
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.system import hardware
from alexnet_tf1.system.gpu import Finding
from alexnet_tf1.system.terminal import broken, columns, show, write

Rows = list[tuple[str, str]]  # label, text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Console:
    """Prints the lines of one training process.

    Attributes:
      quiet: whether standard output gets the result only, and standard error the announcements.
    """

    quiet: bool = False

    def say(self, line: str) -> None:
        """Prints a line of progress, unless quiet."""
        if not self.quiet:
            show(one_line(line))

    def announce(self, line: str) -> None:
        """Prints a line that the user must see: a substitute, a warning, a long wait."""
        show(one_line(line), sys.stderr if self.quiet else sys.stdout)

    def introduce(self, run: runs.Run, data: Dataset, net: AlexNet, found: Finding) -> None:
        """Prints the summary before the first step: data, device, settings, findings."""
        if self.quiet:
            # A GPU that the user hid on purpose needs no warning; result.json has the note.
            if found.note and found.state != "hidden":
                self.announce(f"warning: {found.note}")
            return
        notes, warnings = _audit(net)
        if found.note:
            warnings.insert(0, ("GPU", found.note))
        _show([*_before(run, data, net), *notes], warnings)

    def conclude(self, run: runs.Run, result: dict[str, Any]) -> None:
        """Prints the result after the last step, in two lines if quiet, and what comes next."""
        if result["stopped_by"] is not None:
            show(one_line(f"Stopped after step {result['steps']}; saved in {run.folder}"))
            show("\n".join(next_steps.after_stop(str(run.folder), result["workers"])))
        elif self.quiet:
            data = result["dataset"]
            show(
                f"test accuracy on all {data['test_images']:,} images of {data['name']}: "
                f"{100 * result['test_accuracy_full']:.2f}% in inference, "
                f"{100 * result['batch_statistics_accuracy_full']:.2f}% with batch statistics "
                f"(gap {result['gap_points']:+.2f} points)"
            )
            show(f"{_steps(result, ' step')}; results in {run.folder}")
        else:
            _show(_after(run, result), [])
            if hints := next_steps.after_gap(str(run.folder), result["gap_points"]):
                show("\n".join(hints))


def _show(rows: Rows, warnings: Rows) -> None:
    """Prints rows below each other, on a terminal with coloured labels.

    Rich knows terminals, NO_COLOR and TERM=dumb. It is asked for colours only: elsewhere it writes
    no escape code, and not to wrap: that is `broken`'s.
    """
    width = columns(sys.stdout)
    terminal = rich.console.Console(force_terminal=sys.stdout.isatty(), highlight=False)
    lines = []
    for number, line in enumerate(aligned([*rows, *warnings])):
        line = one_line(line)
        label, colon, text = (broken(line, width) if width else line).partition(":")
        colour = "cyan" if number < len(rows) else "yellow"
        # Not printed by Rich, which ends the process where nobody reads any more.
        with terminal.capture() as captured:
            coloured = Text.assemble((label + colon, colour), text)
            terminal.print(coloured, soft_wrap=True, end="")
        lines.append(captured.get())
    write("\n".join(lines))


def _before(run: runs.Run, data: Dataset, net: AlexNet) -> Rows:
    config, versions = run.config, hardware.versions()
    origin = ", the published files" if data.verified else ", not the published files"
    variables = net.logits.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
    parameters = sum(variable.shape.num_elements() for variable in variables)
    # At the end of an epoch, the images that do not fill a batch are left out.
    epochs = config.steps / (len(data.train.labels) // config.batch_size)
    rows = {
        "data set": f"{data.name}{'' if data.name == 'synthetic' else origin}, "
        f"{len(data.train.labels):,} training and {len(data.test.labels):,} test images",
        "device": hardware.device(),
        "parameters": f"{parameters:,} trainable in {len(variables)} variables",
        "run folder": str(run.folder),
        "training": f"{config.steps:,} steps of {config.batch_size:,} images, {epochs:.3g} epochs; "
        f"learning rate {config.learning_rate:g}, seed {config.seed}",
        **dict(_recipe(config)),
        "arithmetic": f"{config.precision}, "
        f"{'--fast, which rounds differently' if config.fast else 'as the original'}",
        "versions": f"alexnet_tf1 {versions['alexnet_tf1']}, TensorFlow {versions['tensorflow']}, "
        f"NumPy {versions['numpy']}, Python {versions['python']}",
    }
    return list(rows.items())


def _recipe(config: TrainConfig) -> Rows:
    """Makes a row of what differs from the original's training; none if nothing does."""
    given = {
        f"Muon at {config.muon_rate:g} for conv2 to conv5": config.optimizer == "muon",
        "prepared kernels, conv1 not trained": config.kernels == "prepared",
        f"{config.schedule} rate": config.schedule != "constant",
        "mirrored images": config.flip,
        f"images moved by up to {config.shift} pixels": config.shift > 0,
        f"labels smoothed by {config.label_smoothing:g}": config.label_smoothing > 0,
    }
    parts = [text for text, is_used in given.items() if is_used]
    return [("recipe", f"{config.recipe}: {', '.join(parts)}")] if parts else []


def _audit(net: AlexNet) -> tuple[Rows, Rows]:
    """Audits the graph that is about to be trained: notes and warnings, a row each."""
    faults = audit_graph(
        net.logits.graph, [net.train_op], logits=net.logits, is_training=net.is_training
    ).faults
    notes: Rows = []
    if any(fault.rule == "BN201" for fault in faults):
        # No warning: it is part of what is reproduced.
        note = "like the original, this model cannot judge one image alone (BN201)"
        notes.append(("note", f"{note}; --fc-batch-norm ema avoids it"))
    warnings: Rows = []
    if forgotten := [fault.layer for fault in faults if fault.rule == "BN101"]:
        what = f"train_op never updates the moving averages of {listed(forgotten)}"
        warnings.append(("audit, BN101", f"{what}: --update-ops none asks for that"))
    return notes, warnings


def _after(run: runs.Run, result: dict[str, Any]) -> Rows:
    data, rate, peak = result["dataset"], result["steps_per_s"], result["peak_rss_mb"]
    inference, batch = (
        f"{100 * result[key]:.2f}% accuracy{accuracy_suffix(data['name'])}"
        for key in ("test_accuracy_full", "batch_statistics_accuracy_full")
    )
    steps = _steps(result)
    return [
        ("tested", f"all {data['test_images']:,} images of {data['name']}"),
        ("inference", inference),
        ("batch statistics", batch),
        ("gap", f"{result['gap_points']:+.2f} points"),
        ("steps", f"{steps}, {rate:.1f} a second" if rate else steps),
        *([("peak memory", f"{peak / 1000:.2f} GB")] if peak else []),
        ("results in", str(run.folder)),
    ]


def _steps(result: dict[str, Any], unit: str = "") -> str:
    """Counts the steps that this process took, and numbers them where others came before."""
    steps, before = result["steps"], result["resumed_after_step"] or 0
    taken = steps - before
    first = f"{before + 1:,} to " if taken > 1 else ""
    which = f" ({first}{steps:,})" if before and taken else ""
    unit += "s" if unit and taken != 1 else ""
    return f"{taken:,}{unit}{which} in {result['wall_s']:.0f} s"


def accuracy_suffix(name: str) -> str:
    """Names the data set behind an accuracy, if it is not CIFAR-10: "" or " (synthetic)"."""
    return "" if name == "cifar10" else f" ({name})"
