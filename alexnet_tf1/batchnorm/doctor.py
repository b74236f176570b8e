"""A checkpoint's moving statistics, judged without the graph: rules CK101, CK102, CK103.

Only the moving statistics and the step counters are read, so that a checkpoint of any size is
cheap. What a checkpoint alone cannot tell is not called a fault: whether an average had enough
updates, or whether gamma and beta of a layer that is not named after batch normalisation belong
to one; the notes say what was taken for what.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from alexnet_tf1.batchnorm.checkpoint import names as spellings
from alexnet_tf1.batchnorm.report import Fault
from alexnet_tf1.checkpoint.reader import Checkpoint

_REPAIR = "or repair this checkpoint with `recalibrate`"
_RUN_UPDATES = (
    "build train_op under tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS))"
)
_RUN_AVERAGES = "run the op that ExponentialMovingAverage.apply returns with every train_op"
_SAVE_ALL = (
    "save with tf.train.Saver(), not with Saver(tf.trainable_variables()), whose checkpoint "
    "cannot be used for inference"
)


class Measured(NamedTuple):
    """One moving statistic and what its values are.

    Attributes:
      variable: its key in the checkpoint.
      role: "mean", "variance", "std", "renorm_mean" or "renorm_stddev".
      shape: of the variable.
      updates: how often it was updated, where the checkpoint counts that; else None.
      minimum: smallest finite value, in the unit of the inputs (squared for a variance); None if
        there is none.
      maximum: largest finite value.
      mean: of the finite values.
      fraction_initial: share of the values that equal the initial one, 0 to 1.
      negative: how many values are below zero.
      not_finite: how many values are NaN or infinite.
    """

    variable: str
    role: str
    shape: tuple[int, ...]
    updates: int | None
    minimum: float | None
    maximum: float | None
    mean: float | None
    fraction_initial: float
    negative: int
    not_finite: int

    @property
    def finite(self) -> bool:
        """Whether every value is."""
        return not self.not_finite

    @property
    def leaf(self) -> str:
        """The variable's own name, for messages."""
        name = self.variable.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
        parts = name.split("/")
        is_average = re.fullmatch(r".*(?:average|ema)(?:_\d+)?", parts[-1], re.IGNORECASE)
        return "/".join(parts[-2:] if is_average else parts[-1:])

    def to_json(self) -> dict[str, Any]:
        """A strict JSON object: no NaN, no infinity."""
        answer = self._asdict()
        answer["shape"] = list(self.shape)
        return answer | {"finite": self.finite}


class Steps(NamedTuple):
    """How many steps were trained; where not counted, estimated for Adam's default beta2."""

    number: int
    counted: bool

    def __str__(self) -> str:
        """As it stands in a message."""
        about = "" if self.counted else "about "
        return f"{about}{self.number} step{'' if self.number == 1 else 's'}"


class LayerReport(NamedTuple):
    """One batch normalisation of the checkpoint.

    Attributes:
      name: its scope, e.g. "batch_normalization_1".
      statistics: its moving statistics, the mean first; empty if none were saved.
    """

    name: str
    statistics: tuple[Measured, ...]


@dataclass(frozen=True)
class CheckpointReport:
    """What examine_checkpoint found.

    Attributes:
      checkpoint: the prefix that was examined, as Saver.restore takes it.
      layers: the batch normalisations, in the order of their names.
      faults: CK101, CK102 and CK103, one a layer and rule.
      notes: what was assumed, and oddities that are no faults, one line each.
    """

    checkpoint: str
    layers: list[LayerReport]
    faults: list[Fault]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """The report as `doctor --json` prints it; strict JSON."""
        return {
            "checkpoint": self.checkpoint,
            "layers": [
                {
                    "name": layer.name,
                    "moving_averages": [found.variable for found in layer.statistics],
                    "statistics": [found.to_json() for found in layer.statistics],
                }
                for layer in self.layers
            ],
            "faults": [fault._asdict() for fault in self.faults],
            "notes": list(self.notes),
        }


def examine_checkpoint(path: str | os.PathLike[str]) -> CheckpointReport:
    """Looks for moving statistics that were never updated, never saved, or are no statistics.

    Args:
      path: a checkpoint's prefix, its .index or data file, a single-file V1 checkpoint, or a
        folder: of checkpoints (the newest is taken), a SavedModel, or a run.

    Returns:
      The report. A checkpoint saved before the first step is reported too: its statistics are
      at their initial values, and the message says that training had not begun.

    Raises:
      UserError: if there is no checkpoint, or it is damaged or cannot be read.
    """
    checkpoint = Checkpoint(path)
    floats = {name: v.shape for name, v in checkpoint.variables.items() if v.dtype.is_floating}
    candidates = spellings.layers(floats)
    steps = _steps(checkpoint)
    report = CheckpointReport(checkpoint.prefix, [], [], [])
    healthy = {spellings.stem(layer.name) for layer in candidates if len(layer.statistics) > 1}
    unsure: list[str] = []
    for layer in candidates:
        kind = _kind(layer, healthy, spellings.is_object_based(checkpoint.variables))
        if kind == "unsure":
            unsure.append(layer.name)
        elif kind == "batch normalisation":
            measured = tuple(_measure(checkpoint, found) for found in layer.statistics)
            report.layers.append(LayerReport(layer.name, measured))
            _judge(layer, measured, steps, report)
    _add_notes(report, steps, unsure)
    return report


def _kind(layer: spellings.Layer, healthy: set[str], object_based: bool) -> str:
    """Tells batch normalisation from layer, instance and group normalisation.

    Those have gamma and beta too, and no moving statistics to miss. Without statistics it is
    the name that says batch normalisation, or a twin that differs in its number and has them.
    """
    if layer.statistics:
        return "batch normalisation"
    if layer.accumulates:
        return "other"
    named = spellings.is_batch_norm(layer.name)
    if named or (named is None and not object_based and spellings.stem(layer.name) in healthy):
        return "batch normalisation"
    leaves = {name.rpartition("/")[2].split("_")[0] for name in layer.affine}
    return "unsure" if named is None and leaves >= {"gamma", "beta"} else "other"


def _measure(checkpoint: Checkpoint, statistic: spellings.Statistic) -> Measured:
    values = checkpoint.read(statistic.variable).astype(np.float64)
    finite = values[np.isfinite(values)]
    starts = [0.0]
    if statistic.role in ("variance", "std", "renorm_stddev"):
        starts = {True: [0.0], False: [1.0], None: [0.0, 1.0]}[statistic.zero_start]
    return Measured(
        variable=statistic.variable,
        role=statistic.role,
        shape=values.shape,
        updates=_updates(checkpoint, statistic),
        minimum=float(finite.min()) if finite.size else None,
        maximum=float(finite.max()) if finite.size else None,
        mean=_finite_mean(finite),
        fraction_initial=max(float((values == start).mean()) for start in starts),
        negative=int((values < 0).sum()),
        not_finite=int(values.size - finite.size),
    )


def _finite_mean(finite: Any) -> float | None:
    """The mean without overflow: float64 values near the largest one add up to infinity."""
    if not finite.size:
        return None
    scale = float(np.abs(finite).max()) or 1.0
    return float((finite / scale).mean() * scale)


def _updates(checkpoint: Checkpoint, statistic: spellings.Statistic) -> int | None:
    for counter in statistic.counters:
        value = _scalar(checkpoint, counter)
        if value is not None:
            return round(value)
    return None


def _scalar(checkpoint: Checkpoint, name: str) -> float | None:
    """The finite value of a number in the checkpoint; None if there is no such number."""
    variable = checkpoint.variables.get(name)
    if (
        variable is None
        or variable.shape
        or not (variable.dtype.is_integer or variable.dtype.is_floating)
    ):
        return None
    value = float(checkpoint.read(name))
    return value if math.isfinite(value) else None


def _steps(checkpoint: Checkpoint) -> Steps | None:
    """How long was trained: by the step counter, or by what Adam's powers of beta tell."""
    for wanted in ("global_step", "iterations", "iter"):
        for name in checkpoint.variables:
            if _short(name) == wanted:
                value = _scalar(checkpoint, name)
                if value is not None and value >= 0:
                    return Steps(round(value), counted=True)
    power = _scalar(checkpoint, "beta2_power")  # beta2 ** (steps + 1)
    if power is not None and 0 < power <= 0.9991:
        return Steps(round(math.log(power) / math.log(0.999)) - 1, counted=False)
    return None


def _judge(
    layer: spellings.Layer,
    measured: tuple[Measured, ...],
    steps: Steps | None,
    report: CheckpointReport,
) -> None:
    """Adds the faults of one layer, and the notes on it."""
    for found in measured:
        broken = _not_a_statistic(found)
        if broken:
            message = f"{layer.name}: {broken}; take an earlier checkpoint, {_REPAIR}"
            report.faults.append(Fault("CK103", layer.name, message))
            break
    missing = _missing(layer)
    if missing:
        there = _listed([_short(name) for name in layer.affine] + [m.leaf for m in measured])
        message = f"{layer.name}: {there} saved without {_listed(missing)}; {_SAVE_ALL}"
        report.faults.append(Fault("CK102", layer.name, message))
    untouched = _untouched(measured, report)
    if untouched:
        values = " and ".join(f"{m.leaf} is all {m.minimum:g}" for m in untouched)
        when, remedy = f" after {steps}" if steps else "", _remedy(untouched)
        message = f"{layer.name}: {values}{when}: never updated; {remedy}, {_REPAIR}"
        if steps and steps.number == 0:
            message = (
                f"{layer.name}: {values} at step 0: still the initial values, training has not "
                "begun; not to be used for inference yet"
            )
        report.faults.append(Fault("CK101", layer.name, message))


def _not_a_statistic(found: Measured) -> str | None:
    size = math.prod(found.shape)
    if found.not_finite:
        return f"{found.leaf} is not finite in {found.not_finite} of {size} values"
    if found.negative and found.role in ("variance", "std", "renorm_stddev"):
        return (
            f"{found.leaf} is negative in {found.negative} of {size} values, down to "
            f"{found.minimum:g}"
        )
    return None


def _missing(layer: spellings.Layer) -> list[str]:
    """Names the statistics that the layer must have had."""
    mean, variance = layer.find("mean"), layer.find("variance", "std")
    if not mean and not variance:
        return ["moving statistics"] if layer.statistics else ["moving_mean", "moving_variance"]
    if mean and variance:
        return []
    # A hand-written layer may well keep the mean only; the usual ones keep both.
    kept = mean or variance
    assert kept is not None
    if not kept.usual:
        return []
    return ["its variance" if mean else "its mean"]


def _untouched(measured: tuple[Measured, ...], report: CheckpointReport) -> list[Measured]:
    """The statistics that are all at their initial values and that no count says were updated."""
    pair = [found for found in measured if found.role in ("mean", "variance", "std")]
    initial = [found for found in pair if found.fraction_initial == 1.0 and not found.updates]
    if not initial:
        return []
    moved = [found for found in pair if found not in initial]
    if not moved:
        return initial
    # One moved, one did not. A mean of exactly 0 is possible (inputs that are zero, or as often
    # negative as positive); a variance that settles on exactly 1 in every channel is not.
    if moved[0].role == "mean" and initial[0].minimum == 1.0:
        return initial
    report.notes.append(
        f"{initial[0].variable} is all {initial[0].minimum:g} while {moved[0].leaf} has moved: "
        "no fault if its inputs have mean zero"
        if initial[0].role == "mean"
        else f"{initial[0].variable} is all 0: its inputs are constant"
    )
    return []


def _remedy(untouched: list[Measured]) -> str:
    averages = all("average" in found.leaf.lower() for found in untouched)
    return _RUN_AVERAGES if averages else _RUN_UPDATES


def _short(name: str) -> str:
    return name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE").rpartition("/")[2]


def _listed(names: list[str]) -> str:
    return " and ".join(", ".join(names).rsplit(", ", 1))


def _add_notes(report: CheckpointReport, steps: Steps | None, unsure: list[str]) -> None:
    if not report.layers:
        report.notes.append(
            "no batch normalisation was recognised by its variables' names; the spellings known "
            "are those of tf.layers, Keras, slim, tensorpack, sonnet and ExponentialMovingAverage"
        )
    if steps and not steps.counted:
        report.notes.append(
            f"no step counter; Adam's beta2_power tells {steps}, if beta2 was the default 0.999"
        )
    if unsure:
        shown = ", ".join(unsure[:3]) + (", ..." if len(unsure) > 3 else "")
        report.notes.append(
            f"{len(unsure)} with gamma and beta and no moving statistics ({shown}) taken for "
            "layer, instance or group normalisation; if they are batch normalisation, their "
            "moving statistics were not saved"
        )
