"""Puts a diagnosis into words: what is wrong, in which layer, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from alexnet_tf1.reporting.text import listed

BATCH, INFERENCE, PRECISE = "batch statistics", "inference", "precise"

# A layer's averages are off when the typical channel's mean is this many standard deviations
# away, or its variance this many times too large or small. Averages in order measured at most
# 0.11 and 1.12 on the real images; averages never updated at least 0.38 and 2.0 (docs/gap.md).
MEAN_OFF, VARIANCE_OFF = 0.3, 1.5


def verdict(found: dict[str, Any]) -> list[str]:
    """Explains a diagnosis.

    Args:
      found: the result of gap.diagnose without its verdict.

    Returns:
      Sentences, the most serious first. If nothing is wrong, one sentence says so.
    """
    sentences = [
        *_never_updated(found),
        *_lagging(found),
        *_test_batch(found),
        *_effects(found),
    ]
    if not sentences:
        accuracy = _accuracy(found, INFERENCE, found["batch_size"])
        sentences = [
            f"In order: {accuracy} in inference, whatever the batch size and order; the moving "
            "averages fit the weights, and evaluating changes nothing."
        ]
    return sentences


def _never_updated(found: dict[str, Any]) -> Iterable[str]:
    forgotten = _layers_at_fault(found, "BN101")
    if not forgotten:
        return
    off = [name for name in forgotten if name in _off(found)]
    if off:
        read = [name for name in off if name not in _layers_at_fault(found, "BN203")]
        size = found["batch_size"]
        yield (
            f"Training never updated the moving averages of {listed(read or off)}, and inference "
            f"reads them: {_accuracy(found, INFERENCE, size)} in inference, "
            f"{_accuracy(found, BATCH, size)} with batch statistics, "
            f"{_accuracy(found, PRECISE, size)} with precise ones. Mend this checkpoint with "
            f"`alexnet-tf1 recalibrate {found['run']}`; train with --update-ops control."
        )
    else:
        yield (
            f"Training never updates the moving averages of {listed(forgotten)}, but those of "
            "this checkpoint fit the weights: it was recalibrated. Train with --update-ops control."
        )


def _lagging(found: dict[str, Any]) -> Iterable[str]:
    lagging = sorted(_off(found) - set(_layers_at_fault(found, "BN101")))
    read = [name for name in lagging if name not in _layers_at_fault(found, "BN203")]
    if read:
        lag = max(row["lag"] for row in found["layers"] if row["name"] in read)
        yield (
            f"The moving averages of {listed(read)} are updated but far from the population "
            f"({100 * lag:.0f}% of their initial values is left). Train longer, or use "
            f"`alexnet-tf1 recalibrate {found['run']}`."
        )


def _test_batch(found: dict[str, Any]) -> Iterable[str]:
    layers = _layers_at_fault(found, "BN201")
    if layers:
        size = found["batch_size"]
        yield (
            f"{listed(layers)} normalise with the test batch in inference: "
            f"{_accuracy(found, INFERENCE, size)} in mixed batches of {size}, "
            f"{_accuracy(found, INFERENCE, size, 'sorted')} sorted by class, "
            f"{_accuracy(found, INFERENCE, 1)} one image at a time. Train with --fc-batch-norm "
            f"ema, or `alexnet-tf1 recalibrate {found['run']}` and then use --fc-batch-norm ema."
        )


def _effects(found: dict[str, Any]) -> Iterable[str]:
    if found["changed_variables"]:
        yield f"Evaluating changed {listed(found['changed_variables'])}."
    if not found["repeatable"]:
        yield "Evaluating twice gave two answers."


def _layers_at_fault(found: dict[str, Any], rule: str) -> list[str]:
    return [fault["layer"] for fault in found["faults"] if fault["rule"] == rule]


def _off(found: dict[str, Any]) -> set[str]:
    return {
        row["name"]
        for row in found["layers"]
        if row["mean_distance"] > MEAN_OFF or row["variance_distance"] > VARIANCE_OFF
    }


def _accuracy(found: dict[str, Any], mode: str, size: int, order: str = "stored") -> str:
    for cell in found["cells"]:
        if (cell["mode"], cell["batch_size"], cell["order"]) == (mode, size, order):
            return f"{100 * cell['accuracy']:.1f}%"
    raise KeyError((mode, size, order))
