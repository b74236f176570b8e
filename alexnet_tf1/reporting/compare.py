"""Compares runs: reads their files, writes a table and a picture (no TensorFlow)."""

import dataclasses
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from alexnet_tf1 import files
from alexnet_tf1.errors import UserError
from alexnet_tf1.reporting import compare_table
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs.metrics import number

TABLE, PICTURE = "compare.md", "compare.png"
MOST_RUNS: Final = 100  # more cannot be told apart in a picture
MARK: Final = "alexnet-tf1 compare"  # stands in the files that it wrote
MARK_WITHIN: Final = 4096  # bytes from a file's beginning
# These change what is said and saved, not what is trained.
OF_LOGGING: Final = (
    *("run_dir", "data_dir", "log_every", "test_every", "test_batches"),
    *("checkpoint_every", "keep", "worker_timeout"),
)
NOT_COMPARED: Final = (*OF_LOGGING, "steps", "dataset")  # these have a column of their own
DRAWN: Final = ("loss", "accuracy", "test_accuracy", "batch_statistics_accuracy")
FIGURES: Final = (
    "test_accuracy_full",
    "batch_statistics_accuracy_full",
    "gap_points",
    "wall_s",
    "steps_per_s",
    "peak_rss_mb",
)


def compare(folders: Sequence[str], out: str = ".") -> dict[str, Any]:
    """Compares runs, finished or not, and writes compare.md and compare.png.

    A run without result.json, or one that went on after it was written, is compared by its log
    and has no final accuracies.

    Args:
      folders: run folders, 1 to 100; a folder may be given more than once.
      out: folder for the two files, made if needed. Files of these names that `compare` did not
        write are not replaced.

    Returns:
      JSON-ready: runs, differing (names of the settings that differ), comparable (whether all
      saw the same data set), files (written). Each run has: run (as given), label (unique),
      dataset, settings (those that differ), steps, of_steps, finished, final_loss (nats),
      test_accuracy_full, batch_statistics_accuracy_full, gap_points, wall_s (since
      resumed_after_step, if that is not None), steps_per_s, peak_rss_mb, device.

    Raises:
      UserError: if a run cannot be read, or a file cannot be written.
    """
    if len(folders) > MOST_RUNS:
        raise UserError(f"{len(folders)} runs are too many for a picture; name {MOST_RUNS} or less")
    opened = [runs.open_run(folder) for folder in folders]
    metrics = [_metrics(run) for run in opened]
    differing = [
        field.name
        for field in dataclasses.fields(opened[0].config)
        if field.name not in NOT_COMPARED
        and len({getattr(run.config, field.name) for run in opened}) > 1
    ]
    rows = [
        {
            **_row(run, logged),
            "label": label,
            "settings": {name: getattr(run.config, name) for name in differing},
        }
        for run, logged, label in zip(opened, metrics, labels(folders), strict=True)
    ]
    _name_datasets(rows)
    found = {
        "runs": rows,
        "differing": differing,
        "comparable": len({row["dataset"] for row in rows}) == 1,
        "files": [os.path.join(out, TABLE), os.path.join(out, PICTURE)],
    }
    _write(Path(out), found, metrics)
    return found


def _metrics(run: runs.Run) -> list[dict[str, Any]]:
    """Reads the logged values that are drawn."""
    return [
        {key: record[key] for key in ("step", *DRAWN) if record.get(key) is not None}
        for record in run.metrics(cut_short=True)
    ]


def _row(run: runs.Run, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """Collects a run's figures; an unknown one is None."""
    logged = max((record["step"] for record in metrics), default=0)
    result = run.result() or {}
    if logged > result.get("steps", 0):  # the run went on after the result was written
        result = {"dataset": result.get("dataset")}
    source = str(run.folder / runs.RESULT)
    figures = {key: number(result, key, source) for key in FIGURES}
    loss = number(result, "final_loss", source)
    if loss is None:
        loss = next((record["loss"] for record in reversed(metrics) if "loss" in record), None)
    device = result.get("device")
    steps = result.get("steps", logged)
    return {
        "run": str(run.folder),
        **_dataset(run, result),
        "steps": steps,
        "of_steps": run.config.steps,
        "finished": figures["test_accuracy_full"] is not None and steps >= run.config.steps,
        "final_loss": loss,
        **figures,
        "resumed_after_step": number(result, "resumed_after_step", source),
        "device": device if isinstance(device, str) else None,
    }


def _dataset(run: runs.Run, result: dict[str, Any]) -> dict[str, Any]:
    """Finds the data that a run saw: name, verified and checksum (None if not known)."""
    noted = files.read_json(run.folder / runs.DATA)
    noted = noted if isinstance(noted, dict) else {}
    given = result.get("dataset")
    given = given if isinstance(given, dict) else {}
    name = given.get("name", noted.get("name", run.config.dataset))
    if name not in ("cifar10", "synthetic", "auto"):  # auto: a run from before it was noted
        raise UserError(f"{run.folder} names no data set known here; restore it from a copy")
    verified, checksum = given.get("verified"), noted.get("crc32_of_train_images")
    return {
        "dataset": name,
        "verified": verified if isinstance(verified, bool) else None,
        "checksum": checksum if isinstance(checksum, int) else None,
    }


def _name_datasets(rows: list[dict[str, Any]]) -> None:
    """Replaces `dataset` in each row by a name that is the same only for the same images."""
    said = [(row["dataset"], row.pop("verified"), row.pop("checksum")) for row in rows]
    answers = {verified for name, verified, _ in said if name == "cifar10"}
    # A run without a result does not say; it is taken to be like those with one.
    unpublished = {False, None} if False in answers and True not in answers else {False}
    named = [
        (f"{name}, not the published files", checksum)
        if name == "cifar10" and verified in unpublished
        else (name, checksum)
        for name, verified, checksum in said
    ]
    for row, (name, checksum) in zip(rows, named, strict=True):
        known = {other for peer, other in named if peer == name} - {None}
        several = len(known) > 1 and checksum is not None
        row["dataset"] = f"{name}, images {checksum:08x}" if several else name


def labels(folders: Sequence[str]) -> list[str]:
    """Makes a short, unique label for each folder: the end of its path.

    Args:
      folders: paths; one that comes again gets a number.

    Returns:
      The labels, in the same order.
    """
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    found: list[str] = []
    for own in parts:
        others = [other for other in parts if other != own]
        depth = 1
        while depth < len(own) and any(other[-depth:] == own[-depth:] for other in others):
            depth += 1
        name = "/".join(own[-depth:])
        again = (f"{name} ({number})" for number in itertools.count(2))
        found.append(next(label for label in itertools.chain([name], again) if label not in found))
    return found


def _write(folder: Path, found: dict[str, Any], metrics: list[list[dict[str, Any]]]) -> None:
    """Writes both files, or neither if one may not be written."""
    for name in (TABLE, PICTURE):
        _check_ours(folder / name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        said = f"--out {folder} cannot be made ({files.reason(error)}); name another folder"
        raise UserError(said) from None
    files.check_writable(folder, remedy="name another folder: --out")
    from alexnet_tf1.reporting import compare_plot  # matplotlib takes half a second

    compare_plot.draw(found, metrics, folder / PICTURE, software=MARK)
    table = compare_table.comparison_table(found)
    page = f"<!-- written by {MARK} -->\n{table}\n\n![]({PICTURE})\n"
    files.write_bytes(folder / TABLE, page.encode("utf-8"))


def _check_ours(path: Path) -> None:
    """Refuses to replace a file that `compare` did not write."""
    try:
        if not os.path.lexists(path):
            return
        if os.path.isfile(path):
            with open(path, "rb") as file:
                if MARK.encode() in file.read(MARK_WITHIN):
                    return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read ({reason}); name another folder: --out") from None
    raise UserError(f"{path} was not written by compare; move it, or name another folder: --out")
