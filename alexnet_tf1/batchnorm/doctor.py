"""Judges a checkpoint's moving statistics, with the graph beside it or without one.

The stages: checkpoint.names (find the layers by the variables' names) -> checkpoint.beside (correct
them by the graph, if there is a .meta file) -> checkpoint.statistics (read and measure) -> rules.
Only the moving statistics and the step counters are read, and where those leave a doubt some slots
of the optimiser, so that a checkpoint of any size is cheap.
What a checkpoint alone cannot tell is not called a fault: whether an average had enough updates, or
whether gamma and beta of a layer that is not named after batch normalisation belong to one; the
notes say what was taken for what.
"""

import os

from alexnet_tf1.batchnorm.checkpoint import beside, names
from alexnet_tf1.batchnorm.checkpoint.beside import Beside
from alexnet_tf1.batchnorm.checkpoint.names import LayerVariables
from alexnet_tf1.batchnorm.checkpoint.progress import counted_steps
from alexnet_tf1.batchnorm.checkpoint.statistics import MeasuredLayer, measure_layer
from alexnet_tf1.batchnorm.report import CheckpointReport
from alexnet_tf1.batchnorm.rules import registry
from alexnet_tf1.batchnorm.rules.evidence import CheckpointEvidence
from alexnet_tf1.batchnorm.rules.wording import listed
from alexnet_tf1.checkpoint.reader import Checkpoint
from alexnet_tf1.errors import UserError


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
    checkpoint = Checkpoint(path, names_suffice=True)
    graph, notes = _graph_beside(checkpoint)
    layers, unsure = _layers_by_name(checkpoint)
    if graph is not None:
        layers, unsure = _corrected(layers, graph), []
    if checkpoint.missing is not None:
        return _judged_by_names(checkpoint, layers, unsure, notes)
    evidence = CheckpointEvidence(
        checkpoint,
        counted_steps(checkpoint),
        graph.decays if graph else {},
        graph.without_update if graph else {},
        _run_folder(checkpoint.prefix),
        graph is not None,
        notes,
    )
    measured = [measure_layer(checkpoint, layer) for layer in layers]
    faults = registry.check(measured, evidence, {"checkpoint"})
    report = CheckpointReport(checkpoint.prefix, measured, faults, evidence.notes)
    _add_notes(report, unsure)
    return report


def _judged_by_names(
    checkpoint: Checkpoint, layers: list[LayerVariables], unsure: list[str], notes: list[str]
) -> CheckpointReport:
    """Judges an index whose data is not there: what was saved, and not with which values."""
    bare = [MeasuredLayer(layer.name, (), layer) for layer in layers]
    selected = registry.selected("CK102", None)
    evidence = CheckpointEvidence(checkpoint, None, {}, {}, None, has_graph=False, notes=notes)
    faults = registry.check(bare, evidence, {"checkpoint"}, selected)
    report = CheckpointReport(checkpoint.prefix, bare, faults, notes)
    rest = [one.id for one in registry.all_rules() if one.needs == "checkpoint"]
    rest.remove("CK102")
    report.notes.append(
        f"{checkpoint.missing} is not there: {listed(rest)} were not checked, since the index "
        "holds names and no values"
    )
    _add_notes(report, unsure)
    return report


def _graph_beside(checkpoint: Checkpoint) -> tuple[Beside | None, list[str]]:
    """The graph in the .meta file beside the checkpoint, or a note that it is of no use."""
    try:
        return beside.read(checkpoint.prefix, checkpoint.variables), []
    except UserError as error:
        return None, [f"the graph beside the checkpoint was not used: {error}"]


def _layers_by_name(checkpoint: Checkpoint) -> tuple[list[LayerVariables], list[str]]:
    """The batch normalisations, to judge by the names, and the names of what may be some."""
    floats = {name: v.shape for name, v in checkpoint.variables.items() if v.dtype.is_floating}
    candidates = names.layers(floats)
    twins = {names.stem(layer.name) for layer in candidates if len(layer.statistics) > 1}
    object_based = names.is_object_based(checkpoint.variables)
    by_kind: dict[str, list[LayerVariables]] = {}
    for layer in candidates:
        by_kind.setdefault(_kind(layer, twins, object_based), []).append(layer)
    unsure = [layer.name for layer in by_kind.get("unsure", ())]
    return by_kind.get("batch normalisation", []), unsure


def _corrected(named: list[LayerVariables], graph: Beside) -> list[LayerVariables]:
    """The layers as the graph knows them, and those with statistics that it does not know.

    What a layer's variables tell by their names (where a variance starts, what counts its updates)
    is kept.
    """
    by_key = {found.variable: found for layer in named for found in layer.statistics}
    known: set[str] = set()
    for layer in graph.layers:
        known.update(found.variable for found in layer.statistics)
        known.update(layer.affine)
        layer.statistics = [
            by_key.get(s.variable, s)._replace(role=s.role) for s in layer.statistics
        ]
    rest = [
        layer
        for layer in named
        if not known.intersection([*layer.affine, *(s.variable for s in layer.statistics)])
        and (layer.statistics or not graph.variables.intersection(layer.affine))
    ]
    return sorted([*graph.layers, *rest], key=lambda layer: layer.name)


def _run_folder(prefix: str) -> str | None:
    """The run of this program that the checkpoint belongs to."""
    folder, name = os.path.split(os.path.dirname(prefix))
    is_run = name == "checkpoints" and os.path.isfile(os.path.join(folder, "config.json"))
    return (folder or ".") if is_run else None


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


def _add_notes(report: CheckpointReport, unsure: list[str]) -> None:
    """Notes what was not recognised and what was taken for what."""
    if not report.layers:
        report.notes.append(
            "no batch normalisation was recognised by its variables' names; the spellings known "
            "are those of tf.layers, Keras, slim, tensorpack, sonnet and ExponentialMovingAverage"
        )
    if unsure:
        shown = ", ".join(unsure[:3]) + (", ..." if len(unsure) > 3 else "")
        report.notes.append(
            f"{len(unsure)} with gamma and beta and no moving statistics ({shown}) taken for "
            "layer, instance or group normalisation; if they are batch normalisation, their "
            "moving statistics were not saved"
        )
