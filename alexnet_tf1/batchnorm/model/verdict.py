"""Puts a diagnosis into words: what is wrong, in which layer, what to do."""

from typing import Any

from alexnet_tf1.batchnorm.rules.wording import listed

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
    size, mend = found["batch_size"], f"`alexnet-tf1 recalibrate {found['run']}`"
    accuracies = {
        (cell["mode"], cell["batch_size"], cell["order"]): f"{100 * cell['accuracy']:.1f}%"
        for cell in found["cells"]
    }
    inference = accuracies[INFERENCE, size, "stored"]
    forgotten, in_batch, unread = (
        [fault["layer"] for fault in found["faults"] if fault["rule"] == rule]
        for rule in ("BN101", "BN201", "BN203")
    )
    lags = {  # of the layers whose averages are off
        row["name"]: row["lag"]
        for row in found["layers"]
        if row["mean_distance"] > MEAN_OFF or row["variance_distance"] > VARIANCE_OFF
    }
    sentences = []
    if off := [name for name in forgotten if name in lags]:
        read = [name for name in off if name not in unread]
        sentences.append(
            f"Training never updated the moving averages of {listed(read or off)}, and inference "
            f"reads them: {inference} in inference, {accuracies[BATCH, size, 'stored']} with batch "
            f"statistics, {accuracies[PRECISE, size, 'stored']} with precise ones. Mend this "
            f"checkpoint with {mend}; train with --update-ops control."
        )
    elif forgotten:
        sentences.append(
            f"Training never updates the moving averages of {listed(forgotten)}, but those of "
            "this checkpoint fit the weights: it was recalibrated. Train with --update-ops control."
        )
    if lagging := sorted(lags.keys() - {*forgotten, *unread}):
        sentences.append(
            f"The moving averages of {listed(lagging)} are updated but far from the population "
            f"({100 * max(lags[name] for name in lagging):.0f}% of their initial values is left). "
            f"Train longer, or use {mend}."
        )
    if in_batch:
        sentences.append(
            f"{listed(in_batch)} normalise with the test batch in inference: {inference} in mixed "
            f"batches of {size}, {accuracies[INFERENCE, size, 'sorted']} sorted by class, "
            f"{accuracies[INFERENCE, 1, 'stored']} one image at a time. Train with --fc-batch-norm "
            f"ema, or {mend} and then use --fc-batch-norm ema."
        )
    if found["changed_variables"]:
        sentences.append(f"Evaluating changed {listed(found['changed_variables'])}.")
    if not found["repeatable"]:
        sentences.append("Evaluating twice gave two answers.")
    return sentences or [
        f"In order: {inference} in inference, whatever the batch size and order; the moving "
        "averages fit the weights, and evaluating changes nothing."
    ]
