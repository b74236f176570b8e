"""Repairs anybody's model: population statistics in the place of averages that are not right."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from alexnet_tf1.batchnorm.model import wiring
from alexnet_tf1.batchnorm.model.copies import Copy
from alexnet_tf1.batchnorm.model.diagnose import BATCH_SIZE, begin, describe_layer, left_notes
from alexnet_tf1.batchnorm.model.feeds import Examples
from alexnet_tf1.batchnorm.model.setting import Setting, settings
from alexnet_tf1.batchnorm.model.source import open_model
from alexnet_tf1.batchnorm.model.trial import Progress, Trial
from alexnet_tf1.batchnorm.model.write import check_free, write_checkpoint, write_saved_model
from alexnet_tf1.batchnorm.population import Statistics
from alexnet_tf1.batchnorm.rules.wording import some
from alexnet_tf1.errors import UserError


def recalibrate_model(
    path: str | os.PathLike[str],
    examples: Examples,
    *,
    out: str | None = None,
    saved_model: str | None = None,
    logits: Any = None,
    is_training: Any = None,
    batch_size: int = BATCH_SIZE,
    trust: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Re-estimates the population statistics of a model's batch normalisations (Precise-BN).

    Args:
      path: a checkpoint's prefix with its .meta file, or a SavedModel's folder; it is only read.
      examples: what is fed.
      out: prefix of the checkpoint to write, with its .meta file: the moving averages are the
        population's, everything else is equal bit for bit.
      saved_model: folder of the SavedModel to write, in which every batch normalisation uses the
        population's statistics whatever the graph did in inference.
      logits: outputs that inference computes; None: found.
      is_training: the training switch, as for audit_graph.
      batch_size: examples run together.
      trust: whether the graph may touch files, processes or Python.
      progress: told what is being done.

    Returns:
      JSON-ready: model, checkpoint and saved_model (what was written, or None), examples,
      batch_size, layers (name, moving_averages, and how far the old ones were: mean_distance,
      variance_distance), notes.

    Raises:
      UserError: if the model cannot be run so, or nothing of it can be repaired so.
    """
    for target, option in ((out, "--out"), (saved_model, "--saved-model")):
        if target is not None:
            check_free(target, option)
    model = open_model(path)
    trial = begin(model, examples, logits, is_training, batch_size, trust=trust)
    statistics = trial.estimate(progress)
    setting = None
    if out is not None:
        setting = settings(trial, statistics)
        if not setting.values:
            name, reason = next(iter(setting.left.items()))
            raise UserError(
                f"--out: {path} has no moving averages to set ({name}: {reason}); --saved-model "
                "DIR writes a model that needs none"
            )
        write_checkpoint(model, setting.values, out)
    if saved_model is not None:
        _write_inference(trial, statistics, saved_model)
    return {
        "model": str(path),
        "checkpoint": out,
        "saved_model": saved_model,
        **describe_repair(trial, statistics, setting),
    }


def describe_repair(
    trial: Trial, statistics: Mapping[str, Statistics], setting: Setting | None
) -> dict[str, Any]:
    """Describes what was estimated, how far the averages were from it, and what was not set."""
    prepared = trial.prepared
    notes = [*prepared.notes, *prepared.remarks, *left_notes(prepared)]
    return {
        "examples": len(trial.rows),
        "batch_size": trial.batch_size,
        "layers": [describe_layer(trial, name, statistics) for name in statistics],
        "notes": [*notes, *(setting_notes(setting) if setting else [])],
    }


def setting_notes(setting: Setting) -> list[str]:
    """Says of which layers a checkpoint does not help, why, and what does."""
    notes = [f"{name} was not set: {reason}" for name, reason in setting.left.items()]
    if setting.unread:
        notes.append(
            f"inference in this graph does not read the averages of {some(setting.unread)}; "
            "--saved-model DIR writes a model that does"
        )
    elif setting.left:
        notes.append(f"for {some([*setting.left])}, --saved-model DIR writes a model that is right")
    return notes


def _write_inference(trial: Trial, statistics: dict[str, Statistics], folder: str) -> None:
    """Writes the model at inference with these statistics built in."""
    prepared = trial.prepared
    wired = wiring.with_constants(prepared, trial.forms, statistics)
    with trial.copy_of(wired.graph_def) as copy:
        if prepared.batch_size is None:
            _refuse_dependence(trial, copy, wired.outputs)
        feeds = prepared.feed({name: name for name in prepared.feeds})
        inputs = {name: tensor for tensor, name in feeds.items()}
        write_saved_model(
            copy,
            {signature_name(name): inputs[name] for name in prepared.arrays},
            {signature_name(o): w for o, w in zip(prepared.outputs, wired.outputs, strict=True)},
            {inputs[n]: v for n, v in trial.examples.constants.items() if n in inputs},
            folder,
        )


def _refuse_dependence(trial: Trial, copy: Copy, outputs: list[str]) -> None:
    """Refuses a model whose answer for one example still depends on the others of its batch."""
    rows = trial.rows[: min(trial.batch_size, 16)]
    together = copy.run(outputs, trial.feed(rows))
    for place in range(len(rows)):  # few could be alike by chance
        alone = copy.run(outputs, trial.feed(rows[place : place + 1]))
        for name, batch, one in zip(outputs, together, alone, strict=True):
            scale = float(np.abs(batch).max(initial=0.0))
            if not np.allclose(batch[place], one[0], rtol=1e-3, atol=1e-3 * scale):
                raise UserError(
                    f"--saved-model: {name} of an example still depends on the rest of its batch, "
                    "or on chance, when all batch normalisations found have fixed statistics; "
                    "nothing was written"
                )


def signature_name(tensor: str) -> str:
    """A tensor's name as a signature shows it: without ":0", and without slashes."""
    return tensor.removesuffix(":0").replace("/", "_").replace(":", "_")
