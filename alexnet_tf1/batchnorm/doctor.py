"""Judges a checkpoint's moving statistics without the graph.

The stages: checkpoint.names (find the layers by the variables' names) -> checkpoint.statistics
(read and measure) -> rules. Only the moving statistics and the step counters are read, so that a
checkpoint of any size is cheap. What a checkpoint alone cannot tell is not called a fault: whether
an average had enough updates, or whether gamma and beta of a layer that is not named after batch
normalisation belong to one; the notes say what was taken for what.
"""

import os

from alexnet_tf1.batchnorm.checkpoint import names
from alexnet_tf1.batchnorm.checkpoint.names import LayerVariables
from alexnet_tf1.batchnorm.checkpoint.statistics import Steps, measure_layer, trained_steps
from alexnet_tf1.batchnorm.report import CheckpointReport
from alexnet_tf1.batchnorm.rules import registry
from alexnet_tf1.batchnorm.rules.evidence import CheckpointEvidence
from alexnet_tf1.checkpoint.reader import Checkpoint


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
    candidates = names.layers(floats)
    twins = {names.stem(layer.name) for layer in candidates if len(layer.statistics) > 1}
    object_based = names.is_object_based(checkpoint.variables)
    by_kind: dict[str, list[LayerVariables]] = {}
    for layer in candidates:
        by_kind.setdefault(_kind(layer, twins, object_based), []).append(layer)
    evidence = CheckpointEvidence(trained_steps(checkpoint))
    layers = [measure_layer(checkpoint, v) for v in by_kind.get("batch normalisation", ())]
    faults = registry.check(layers, evidence, {"checkpoint"})
    report = CheckpointReport(checkpoint.prefix, layers, faults, evidence.notes)
    _add_notes(report, evidence.steps, [layer.name for layer in by_kind.get("unsure", ())])
    return report


def _kind(layer: LayerVariables, twins: set[str], object_based: bool) -> str:
    """Tells batch normalisation from layer, instance and group normalisation.

    Those have gamma and beta too, and no moving statistics to miss. Without statistics it is
    the name that says batch normalisation, or a twin that differs in its number and has them.
    """
    if layer.statistics:
        return "batch normalisation"
    if layer.accumulates:
        return "other"
    named = names.is_batch_norm(layer.name)
    if named or (named is None and not object_based and names.stem(layer.name) in twins):
        return "batch normalisation"
    leaves = {name.rpartition("/")[2].split("_")[0] for name in layer.affine}
    return "unsure" if named is None and leaves >= {"gamma", "beta"} else "other"


def _add_notes(report: CheckpointReport, steps: Steps | None, unsure: list[str]) -> None:
    """Notes what was not recognised, what was estimated and what was taken for what."""
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
