"""Measures the moving statistics of a checkpoint, and how long was trained."""

import math
import re
from typing import Any, NamedTuple

import numpy as np

from alexnet_tf1.batchnorm.checkpoint import names
from alexnet_tf1.batchnorm.checkpoint.names import LayerVariables, Statistic
from alexnet_tf1.checkpoint.reader import Checkpoint


class Measured(NamedTuple):
    """One moving statistic and what its values are."""

    variable: str  # its key in the checkpoint
    role: str  # "mean", "variance", "std", "renorm_mean" or "renorm_stddev"
    shape: tuple[int, ...]  # of the variable
    updates: int | None  # how often it was updated, where the checkpoint counts that; else None
    # smallest finite value, in the unit of the inputs (squared for a variance); None if there is
    # none
    minimum: float | None
    maximum: float | None  # largest finite value
    mean: float | None  # of the finite values
    fraction_initial: float  # share of the values that equal the initial one, 0 to 1
    negative: int  # how many values are below zero
    not_finite: int  # how many values are NaN or infinite

    @property
    def leaf(self) -> str:
        """The variable's own name, for messages."""
        parts = names.plain_name(self.variable).split("/")
        is_average = re.fullmatch(r".*(?:average|ema)(?:_\d+)?", parts[-1], re.IGNORECASE)
        return "/".join(parts[-2:] if is_average else parts[-1:])

    def to_json(self) -> dict[str, Any]:
        """A strict JSON object: no NaN, no infinity."""
        return {**self._asdict(), "shape": list(self.shape), "finite": not self.not_finite}


class Steps(NamedTuple):
    """The number of steps trained; where not counted, estimated for Adam's default beta2."""

    number: int
    counted: bool

    def __str__(self) -> str:
        """As it stands in a message."""
        about = "" if self.counted else "about "
        return f"{about}{self.number} step{'' if self.number == 1 else 's'}"


class MeasuredLayer(NamedTuple):
    """One batch normalisation of a checkpoint."""

    name: str  # its scope, e.g. "batch_normalization_1"
    # its moving statistics, the mean first; empty if none were saved
    statistics: tuple[Measured, ...]
    variables: LayerVariables  # what the checkpoint holds of it


def measure_layer(checkpoint: Checkpoint, variables: LayerVariables) -> MeasuredLayer:
    """Reads and measures the moving statistics of one layer.

    Raises:
      UserError: if a variable's bytes are damaged.
    """
    measured = tuple(_measured(checkpoint, found) for found in variables.statistics)
    return MeasuredLayer(variables.name, measured, variables)


def _measured(checkpoint: Checkpoint, statistic: Statistic) -> Measured:
    values = checkpoint.read(statistic.variable).astype(np.float64)
    finite = values[np.isfinite(values)]
    starts = [0.0]
    if statistic.role in ("variance", "std", "renorm_stddev"):
        starts = {True: [0.0], False: [1.0], None: [0.0, 1.0]}[statistic.zero_start]
    minimum = maximum = mean = None
    if finite.size:
        minimum, maximum = float(finite.min()), float(finite.max())
        # float64 values near the largest one add up to infinity: scaled, they do not.
        scale = max(-minimum, maximum) or 1.0
        mean = float((finite / scale).mean() * scale)
    counts = (_scalar(checkpoint, counter) for counter in statistic.counters)
    updates = next((round(count) for count in counts if count is not None), None)
    return Measured(
        statistic.variable,
        statistic.role,
        values.shape,
        updates,
        minimum,
        maximum,
        mean,
        fraction_initial=max(float((values == start).mean()) for start in starts),
        negative=int((values < 0).sum()),
        not_finite=int(values.size - finite.size),
    )


def _scalar(checkpoint: Checkpoint, name: str) -> float | None:
    """The finite value of a number in the checkpoint; None if there is no such number."""
    variable = checkpoint.variables.get(name)
    if variable is None or variable.shape:
        return None
    if not (variable.dtype.is_integer or variable.dtype.is_floating):
        return None
    value = float(checkpoint.read(name))
    return value if math.isfinite(value) else None


def trained_steps(checkpoint: Checkpoint) -> Steps | None:
    """Finds how long was trained, by the step counter or else by Adam's powers of beta."""
    for wanted in ("global_step", "iterations", "iter"):
        for name in checkpoint.variables:
            if names.short_name(name) == wanted:
                value = _scalar(checkpoint, name)
                if value is not None and value >= 0:
                    return Steps(round(value), counted=True)
    power = _scalar(checkpoint, "beta2_power")  # beta2 ** (steps + 1)
    if power is not None and 0 < power <= 0.9991:
        return Steps(round(math.log(power) / math.log(0.999)) - 1, counted=False)
    return None
