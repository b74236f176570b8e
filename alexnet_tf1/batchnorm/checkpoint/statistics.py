"""Measures the moving statistics of a checkpoint."""

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from alexnet_tf1.batchnorm.checkpoint import names
from alexnet_tf1.batchnorm.checkpoint.names import LayerVariables, Statistic
from alexnet_tf1.checkpoint.reader import Checkpoint
from alexnet_tf1.errors import UserError


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


def any_has_moved(prefix: str, keys: Iterable[str]) -> bool:
    """Tells whether one of a checkpoint's averages is not at its initial value, all 0 or all 1.

    A checkpoint that cannot be read tells nothing.
    """
    try:
        checkpoint = Checkpoint(prefix)
        values = [checkpoint.read(key) for key in keys if key in checkpoint.variables]
    except UserError:
        return False
    return any(not np.all(v == 0) and not np.all(v == 1) for v in values)


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
    counts = (scalar(checkpoint, counter) for counter in statistic.counters)
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


def scalar(checkpoint: Checkpoint, name: str) -> float | None:
    """The finite value of a number in the checkpoint; None if there is no such number."""
    variable = checkpoint.variables.get(name)
    if variable is None or variable.shape:
        return None
    if not (variable.dtype.is_integer or variable.dtype.is_floating):
        return None
    value = float(checkpoint.read(name))
    return value if math.isfinite(value) else None
