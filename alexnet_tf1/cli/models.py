"""diagnose and recalibrate on anybody's model: their options, and what a model needs of them."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alexnet_tf1.config import option
from alexnet_tf1.errors import UserError
from alexnet_tf1.reporting.next_steps import quoted
from alexnet_tf1.runs.folder import CONFIG

_OF_RUN = ("images", "checkpoint", "data_dir")
_EXAMPLES = ("feed", "set", "examples")
_SETTINGS = ("logits", "is_training", "batch_size", "trust")
_TARGETS = ("out", "saved_model")
_FORM = "a checkpoint's prefix or a SavedModel folder"


def find_model(named: str | None, given: Mapping[str, Any]) -> str | None:
    """Tells a model from a run folder of ours.

    Args:
      named: the operand; None where the newest run is meant.
      given: the values of the options that are for one of the two only, by name; None: not given.

    Returns:
      The model's path; None for a run.

    Raises:
      UserError: if an option is given that is for the other one, or if a model's inputs are not.
    """
    of_run = [option(name) for name in _OF_RUN if given[name] is not None]
    of_model = [option(name) for name in given if name not in _OF_RUN and given[name]]
    if named is None or _is_run(named):
        if of_model:
            run = "no MODEL is named" if named is None else f"{named} is a run folder"
            raise UserError(
                f"{of_model[0]} is for a MODEL, and {run}; name {_FORM}, or leave it out"
            )
        return None
    if not given["feed"]:
        raise UserError(
            f"{named} is not a run folder (no {CONFIG}); of a MODEL, {_FORM}, say what it is fed: "
            "--feed NAME=FILE.npy"
        )
    if of_run:
        raise UserError(
            f"{of_run[0]} is for a run folder, and {named} is none (no {CONFIG}); leave it out"
        )
    return named


def _is_run(named: str) -> bool:
    own = named if os.path.basename(named) == CONFIG else os.path.join(named, CONFIG)
    return os.path.isfile(own)


def of_run(given: Mapping[str, Any]) -> dict[str, Any]:
    """Picks the options for a run that were given."""
    return _given(_OF_RUN, given)


def diagnose(model: str, out: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Measures a model's gap, explains it, and writes diagnose.json and diagnose.png.

    Args:
      model: a checkpoint's prefix or a SavedModel folder.
      out: folder for the two files.
      given: the options' values by name; None: not given.

    Returns:
      The content of diagnose.json.

    Raises:
      UserError: if an option, its file or the model cannot be used.
    """
    from alexnet_tf1.batchnorm.model.diagnose import diagnose_model
    from alexnet_tf1.batchnorm.model.feeds import read_labels
    from alexnet_tf1.batchnorm.model.verdict import verdict
    from alexnet_tf1.reporting import diagnosis, progress

    examples = _examples(given)
    labels = None if given["labels"] is None else read_labels(given["labels"], examples)
    diagnosis.check_place(Path(out))
    with progress.bars("examples") as told:
        found: dict[str, Any] = diagnose_model(
            model, examples, labels=labels, progress=told, **_given(_SETTINGS, given)
        )
    found["verdict"] = verdict(found, _remedies(model, given))
    diagnosis.write(found, Path(out))
    return found


def recalibrate(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Re-estimates a model's statistics; says what was written.

    Args:
      model: a checkpoint's prefix or a SavedModel folder.
      given: the options' values by name, of which `out` and `saved_model` say where to write;
        None: not given.

    Raises:
      UserError: if an option, its file or the model cannot be used.
    """
    from alexnet_tf1.batchnorm.model.repair import recalibrate_model
    from alexnet_tf1.reporting import progress

    with progress.bars("examples") as told:
        found: dict[str, Any] = recalibrate_model(
            model, _examples(given), progress=told, **_given((*_SETTINGS, *_TARGETS), given)
        )
    return found


def _examples(given: Mapping[str, Any]) -> Any:
    from alexnet_tf1.batchnorm.model.feeds import read_examples

    return read_examples(given["feed"], given["set"] or (), given["examples"])


def _given(names: tuple[str, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in names if given[name] is not None}


def _remedies(model: str, given: Mapping[str, Any]) -> Any:
    """Names the commands that mend this model, with the options that were typed."""
    from alexnet_tf1.batchnorm.model.verdict import Remedies
    from alexnet_tf1.batchnorm.rules.wording import UPDATE_OPS

    words = ["alexnet-tf1 recalibrate", quoted(model)]
    for name, value in _given((*_EXAMPLES, *_SETTINGS), given).items():
        if value is True:
            words.append(option(name))
        elif value is not False:
            values = value if isinstance(value, list) else [value]
            words += [f"{option(name)} {shlex.quote(str(value))}" for value in values]
    command = " ".join(words)
    stem = model.rstrip("/").removesuffix(".meta").removesuffix(".index")
    return Remedies(
        f"`{command} --out {quoted(f'{stem}-recalibrated')}`",
        update=f"build the training op under {UPDATE_OPS}",
        alone=f"write a model that judges each example by itself: `{command} --saved-model "
        f"{quoted(f'{stem}-served')}`",
    )
