"""Measures the training-versus-inference gap of anybody's model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_tf1.batchnorm import measure as measuring
from alexnet_tf1.batchnorm.audit import audit_file
from alexnet_tf1.batchnorm.doctor import examine_checkpoint
from alexnet_tf1.batchnorm.measure import Cell, Judge
from alexnet_tf1.batchnorm.model import wiring
from alexnet_tf1.batchnorm.model.averages import kept_by
from alexnet_tf1.batchnorm.model.copies import Copy
from alexnet_tf1.batchnorm.model.feeds import Examples
from alexnet_tf1.batchnorm.model.prepare import Prepared, prepare
from alexnet_tf1.batchnorm.model.source import Array, Model, open_model
from alexnet_tf1.batchnorm.model.trial import Progress, Trial
from alexnet_tf1.batchnorm.model.trust import refuse_untrusted
from alexnet_tf1.batchnorm.model.verdict import BATCH, INFERENCE, PRECISE
from alexnet_tf1.batchnorm.population import Statistics
from alexnet_tf1.batchnorm.report import CheckpointReport, Fault
from alexnet_tf1.errors import UserError

BATCH_SIZE = 100


def diagnose_model(
    path: str | os.PathLike[str],
    examples: Examples,
    *,
    labels: Array | None = None,
    logits: str | None = None,
    is_training: Any = None,
    batch_size: int = BATCH_SIZE,
    trust: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures the gap of a checkpoint with its .meta file, or of a SavedModel.

    Args:
      path: a checkpoint's prefix or a SavedModel's folder.
      examples: what is fed: the examples to measure on and to estimate the statistics from.
      labels: int [N], class numbers; None: outputs are compared, and not judged.
      logits: the output; None: found.
      is_training: the training switch, as for audit_graph.
      batch_size: examples a batch, where the batch size itself is not what is measured.
      trust: whether the graph may touch files, processes or Python.
      progress: told what is being done.

    Returns:
      JSON-ready: model, checkpoint, examples, batch_size, logits, is_training, layers (name,
      moving_averages, mean_distance, variance_distance), faults, notes, cells (see
      measure.Cell), gap_points (None without labels), repeatable, changed_variables, left_out
      (what the audit could not check).

    Raises:
      UserError: if the model cannot be run so.
    """
    model = open_model(path)
    trial = begin(model, examples, logits, is_training, batch_size, trust=trust)
    audited = audit_file(path, None, logits, is_training)
    assert model.checkpoint is not None
    doctored = examine_checkpoint(model.checkpoint.prefix)
    found = measure(trial, labels=labels, notes=audited.notes, progress=progress)
    known = _names_in_graph(doctored, found["layers"], model)
    in_checkpoint = [f._replace(layer=known.get(f.layer, f.layer)) for f in doctored.faults]
    found["faults"] = [fault._asdict() for fault in (*audited.faults, *in_checkpoint)]
    found["left_out"] = [*audited.left_out.values(), *left_notes(trial.prepared)]
    return {"model": str(path), "checkpoint": model.checkpoint.prefix, **found}


def _names_in_graph(
    doctored: CheckpointReport, layers: Iterable[dict[str, Any]], model: Model
) -> dict[str, str]:
    """Gives the graph's names of layers that the checkpoint, by its variables, calls otherwise."""
    names = {
        model.keys.get(key, key): layer["name"]
        for layer in layers
        for key in layer["moving_averages"]
    }
    return {
        layer.name: names[found.variable]
        for layer in doctored.layers
        for found in layer.statistics
        if found.variable in names
    }


def begin(
    model: Model,
    examples: Examples,
    logits: Any,
    is_training: Any,
    batch_size: int,
    *,
    trust: bool,
) -> Trial:
    """Prepares a model and runs it for the first time; refuses one that is not trusted."""
    refuse_untrusted(model.source.graph_def, model.name, (), trust=trust)
    prepared = prepare(model, examples, logits, is_training)
    if not prepared.found.layers and not prepared.found.left:
        raise UserError(
            f"{model.name}: no batch normalisation lies behind {', '.join(prepared.outputs)}; name "
            "another output with --logits"
        )
    return Trial(prepared, examples, batch_size, trust=trust)


def measure(
    trial: Trial,
    *,
    labels: Array | None = None,
    statistics: Mapping[str, Statistics] | None = None,
    faults: Iterable[Fault] = (),
    notes: Iterable[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures a model by mode, test batch size and order.

    Args:
      trial: the model and the examples.
      labels: class numbers of the examples, or None.
      statistics: the population's by layer; None: estimated from the examples themselves.
      faults: found in the graph and the checkpoint.
      notes: on how they were found.
      progress: told what is being done.

    Returns:
      What `diagnose_model` returns, without the files.
    """
    prepared = trial.prepared
    output = _only_output(prepared)
    rows = trial.rows
    statistics = statistics or trial.estimate(progress)
    layers = [describe_layer(trial, name, statistics) for name in prepared.found.spots]
    given = wiring.with_given_statistics(prepared, trial.forms)
    fixed = prepared.batch_size
    sizes = [fixed] if fixed else [*measuring.BATCH_SIZES, trial.batch_size]
    modes = (INFERENCE, BATCH, PRECISE)
    cells: list[Cell] = []
    with trial.copy_of(given.graph_def) as copy:
        precise = _compute(trial, copy, given.outputs[0], given.feed(statistics))
        judge = _judge(
            trial, output, measuring.compute_all(precise, rows, trial.batch_size), labels
        )
        report = _reporter(progress, len(modes) * _tests(sizes, len(rows)) * len(rows))
        cells += measuring.sweep({PRECISE: precise}, judge, sizes, report)
    with trial.as_it_is() as copy:
        inference = _compute(trial, copy, trial.outputs[0], {})
        effects = measuring.side_effects(copy.values, inference, rows, trial.batch_size)
        cells += measuring.sweep({INFERENCE: inference}, judge, sizes, report)
    on_batch = wiring.with_batch_statistics(prepared, trial.forms, trial.corrections)
    with trial.copy_of(on_batch.graph_def) as copy:
        batch = _compute(trial, copy, on_batch.outputs[0], {})
        cells += measuring.sweep({BATCH: batch}, judge, sizes, report)
    one, two = (
        measuring.cell_at(cells, mode, min(trial.batch_size, len(rows)), "stored").accuracy
        for mode in (BATCH, INFERENCE)
    )
    return {
        "examples": len(rows),
        "batch_size": trial.batch_size,
        "logits": output,
        "is_training": prepared.switches,
        "layers": layers,
        "faults": [fault._asdict() for fault in faults],
        "notes": [*notes, *prepared.remarks, *left_notes(prepared)],
        "cells": [cell._asdict() for cell in cells],
        "gap_points": None if one is None or two is None else 100 * (one - two),
        "repeatable": effects.repeatable,
        "changed_variables": effects.changed_variables,
    }


def _only_output(prepared: Prepared) -> str:
    if len(prepared.outputs) > 1:
        raise UserError(
            f"{prepared.model.name}: several outputs were found; choose one with --logits: "
            + ", ".join(prepared.outputs)
        )
    return prepared.outputs[0]


def _compute(trial: Trial, copy: Copy, output: str, more: Mapping[str, Any]) -> measuring.Compute:
    def compute(rows: measuring.Rows) -> Array:
        outputs = np.asarray(copy.run([output], {**trial.feed(rows), **more})[0])
        if outputs.shape[:1] != (len(rows),):
            raise UserError(
                f"--logits {output}: its shape is {list(outputs.shape)} for {len(rows)} examples; "
                "name an output with one row an example"
            )
        return outputs

    return compute


def _judge(trial: Trial, output: str, reference: Array, labels: Array | None) -> Judge:
    """Judges by the labels, if they fit the output."""
    if labels is None:
        return Judge(reference)
    labels = labels[: len(reference)]
    node = trial.prepared.provenance.nodes
    name = output.partition(":")[0]
    operation = next(n.op for n in node if n.name == name)
    fits = labels.shape == reference.shape[:-1] and reference.shape[-1] > 1
    if not fits and labels.size != reference.size:
        raise UserError(
            f"--labels: their shape is {list(labels.shape)}, and {output} gives "
            f"{list(reference.shape)}; name the logits with --logits, or leave the labels out"
        )
    classes = reference.shape[-1] if fits else 2
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UserError(
            f"--labels: {int(labels.min())} to {int(labels.max())}, and {output} tells {classes} "
            "classes, which are numbered from 0"
        )
    return Judge(reference, labels, probability=operation == "Sigmoid")


def _tests(sizes: Sequence[int], count: int) -> int:
    """Of a sweep over these sizes, how often every example is tested."""
    return sum(1 if size == 1 else 2 for size in {min(size, count) for size in sizes})


def _reporter(progress: Progress | None, whole: int) -> Callable[[int], None]:
    done = 0

    def report(examples: int) -> None:
        nonlocal done
        done += examples
        if progress is not None:
            progress("testing", done, whole)

    return report


def describe_layer(trial: Trial, name: str, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
    """Describes how far a layer's averages are from the population."""
    prepared = trial.prepared
    layer = next(layer for layer in prepared.found.layers if layer.name == name)
    kept = kept_by(prepared, layer)
    averages = trial.averages(layer, kept)
    described: dict[str, Any] = {
        "name": name,
        "moving_averages": [*kept.mean, *kept.variance],
        "mean_distance": None,
        "variance_distance": None,
    }
    if averages is not None:
        spot = prepared.found.spots[name][0]
        off = measuring.distance(*averages, *statistics[name], spot.epsilon)
        described["mean_distance"], described["variance_distance"] = off
    return described


def left_notes(prepared: Prepared) -> Iterator[str]:
    """Says which layers could not be given other statistics, and why."""
    for name, reason in prepared.found.left.items():
        yield f"{name} keeps its own statistics in every mode: {reason}"
