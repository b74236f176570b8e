"""Finds out from a checkpoint how long was trained, and whether training has begun at all."""

from __future__ import annotations

import math
import re

import numpy as np

from alexnet_tf1.batchnorm.checkpoint import names
from alexnet_tf1.batchnorm.checkpoint.statistics import scalar
from alexnet_tf1.checkpoint.reader import Checkpoint

_SLOT = re.compile(
    r"/(?:Adam|AdamW|AdaMax|Nadam|Momentum|RMSProp|Adagrad|Adadelta|Ftrl|LAMB)(?:_\d+)?$"
    r"|\.OPTIMIZER_SLOT/"
)
_SLOTS = 20  # the smallest are read
_NO_BETA = 0.5  # no optimiser has a beta2 that is smaller, and its power begins with it


def counted_steps(checkpoint: Checkpoint) -> int | None:
    """Reads the step counter; None if there is none."""
    for wanted in ("global_step", "iterations", "iter"):
        for name in checkpoint.variables:
            if names.short_name(name) == wanted:
                value = scalar(checkpoint, name)
                if value is not None and value >= 0:
                    return round(value)
    return None


def has_begun(checkpoint: Checkpoint, steps: int | None) -> bool | None:
    """Tells whether a training step was made, by the counter, Adam's powers and the slots.

    A program need not count its steps. A slot, such as Adam's mean of the gradients, begins with
    one value throughout, whichever that is, and ceases to with the first gradient.

    Args:
      checkpoint: the checkpoint.
      steps: its step counter.

    Returns:
      None if nothing tells.
    """
    power = scalar(checkpoint, "beta2_power")
    if steps or (power is not None and power < _NO_BETA):
        return True
    sizes = {name: math.prod(v.shape) for name, v in checkpoint.variables.items()}
    slots = sorted((n for n in sizes if _SLOT.search(n) and sizes[n] > 1), key=sizes.__getitem__)
    values = [checkpoint.read(name) for name in slots[:_SLOTS]]
    if any(np.any(value != value.flat[0]) for value in values):
        return True
    return False if values or steps == 0 else None
