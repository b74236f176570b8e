"""What every check in this package answers with."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """One fault of one layer.

    Attributes:
      rule: "BN101" ... "BN203" (a graph), "CK101" ... "CK103" (a checkpoint).
      layer: the layer's name, e.g. "batch_normalization_1".
      message: what is wrong, in which variable, and the remedy, in one line.
    """

    rule: str
    layer: str
    message: str
