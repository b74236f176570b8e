"""Runs side by side: a table, and their curves in one picture (no TensorFlow)."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from alexnet_tf1 import files
from alexnet_tf1.errors import UserError
from alexnet_tf1.reporting import text as report
from alexnet_tf1.runs import folder as runs

TABLE, PICTURE = "compare.md", "compare.png"
MOST_RUNS: Final = 100  # a picture of more is none
MARK: Final = "alexnet-tf1 compare"  # by which its own files are known again
MARK_WITHIN: Final = 4096  # bytes from a file's beginning
# Where things are, and how far to go, which the column of steps says.
NOT_COMPARED: Final = ("run_dir", "data_dir", "steps")
MOST_STEPS: Final = 2**53  # which floats still tell apart
LARGEST: Final = 1e30  # what a picture still has an axis for
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

    A run without result.json, or that went on after it was written, is compared by what it has
    logged: it has no final accuracies.

    Args:
      folders: run folders, 1 to 100; the same one may be given again.
      out: folder for the two files, made if it is not there. Files of these names that `compare`
        did not write are left alone.

    Returns:
      A JSON-ready dict: runs (of each: run, as given; label, unique; dataset; settings, those
      that differ between the runs; steps, of_steps, finished, final_loss in nats,
      test_accuracy_full, batch_statistics_accuracy_full, gap_points, wall_s, since
      resumed_after_step where that is not None, steps_per_s, peak_rss_mb, device), differing
      (the settings' names), comparable (whether all saw the same data set), files.

    Raises:
      UserError: if a run cannot be read, or a file cannot be written.
    """
    if len(folders) > MOST_RUNS:
        raise UserError(f"{len(folders)} runs are too many for a picture; name {MOST_RUNS} or less")
    opened = [runs.open_run(folder) for folder in folders]
    metrics = [_metrics(run) for run in opened]
    rows = [_row(run, logged) for run, logged in zip(opened, metrics, strict=True)]
    for row, label in zip(rows, labels(folders), strict=True):
        row["label"] = label
    differing = _differing(opened)
    for row, run in zip(rows, opened, strict=True):
        row["settings"] = {name: getattr(run.config, name) for name in differing}
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
    """What was logged of that which is drawn; each value checked to be a number."""
    metrics = []
    for number, record in enumerate(run.metrics(cut_short=True), 1):
        source = f"{run.folder / runs.METRICS}, line {number}"
        step = record.get("step")
        if not isinstance(step, int) or not 0 <= step < MOST_STEPS:
            raise UserError(f"{source} names no step; delete the line")
        values = {key: _number(record, key, source) for key in DRAWN}
        known = {key: value for key, value in values.items() if value is not None}
        metrics.append({"step": step, **known})
    return metrics


def _row(run: runs.Run, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """A run's figures; None for what is not known."""
    logged = max((record["step"] for record in metrics), default=0)
    result = run.result() or {}
    if logged > result.get("steps", 0):  # it goes on, or was killed, after that was written
        result = {"dataset": result.get("dataset")}
    source = str(run.folder / runs.RESULT)
    figures = {key: _number(result, key, source) for key in FIGURES}
    loss = _number(result, "final_loss", source)
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
        "resumed_after_step": _number(result, "resumed_after_step", source),
        "device": device if isinstance(device, str) else None,
    }


def _number(values: dict[str, Any], key: str, source: str) -> Any:
    """A number that can be, or None.

    Raises:
      UserError: if it is something else.
    """
    value = values.get(key)
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    least, most = (0, 1) if "accuracy" in key else (-LARGEST, LARGEST)
    if not is_number or not least <= value <= most:  # so is NaN
        said = report.one_line(json.dumps(value))[:40]
        raise UserError(f"{source}: {key} cannot be {said}; restore it from a copy")
    return value


def _dataset(run: runs.Run, result: dict[str, Any]) -> dict[str, Any]:
    """Which data the run saw: name, verified (None if not known) and a checksum (likewise)."""
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
    """Makes `dataset` of each row a name that differs where the images do."""
    verified = [row.pop("verified") for row in rows]
    names = [row["dataset"] for row in rows]
    for number, row in enumerate(rows):
        name = names[number]
        peers = {v for v, peer in zip(verified, names, strict=True) if peer == name}
        # A run that has no result does not say; it is taken to be like those that do.
        unpublished = verified[number] is False or (
            verified[number] is None and False in peers and True not in peers
        )
        if name == "cifar10" and unpublished:
            row["dataset"] = f"{name}, not the published files"
    checksums = [row.pop("checksum") for row in rows]
    named = [row["dataset"] for row in rows]
    for row, checksum, name in zip(rows, checksums, named, strict=True):
        others = {c for c, peer in zip(checksums, named, strict=True) if peer == name}
        if len(others - {None}) > 1 and checksum is not None:
            row["dataset"] = f"{name}, images {checksum:08x}"


def _differing(opened: Sequence[runs.Run]) -> list[str]:
    """Names of the settings that are not the same in all runs."""
    names = [field.name for field in dataclasses.fields(opened[0].config)]
    return [
        name
        for name in names
        if name not in (*NOT_COMPARED, "dataset")  # the data set has a column of its own
        and len({getattr(run.config, name) for run in opened}) > 1
    ]


def labels(folders: Sequence[str]) -> list[str]:
    """A short name for each folder: its own, with as much before it as tells it apart.

    Args:
      folders: paths; the same one may come again, and is numbered then.

    Returns:
      As many different names.
    """
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    depths = [1] * len(parts)

    def name(number: int) -> str:
        return "/".join(parts[number][-depths[number] :])

    for number, own in enumerate(parts):
        rivals = [other for other in parts if other != own]
        while depths[number] < len(own) and any(
            other[-depths[number] :] == own[-depths[number] :] for other in rivals
        ):
            depths[number] += 1
    found: list[str] = []
    for number in range(len(parts)):
        label, again = name(number), 1
        while label in found:
            again += 1
            label = f"{name(number)} ({again})"
        found.append(label)
    return found


def _write(folder: Path, found: dict[str, Any], metrics: list[list[dict[str, Any]]]) -> None:
    """Writes the two files, or, if one may not be written, neither."""
    for name in (TABLE, PICTURE):
        _check_ours(folder / name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--out {folder} cannot be made ({reason}); name another folder") from None
    files.check_writable(folder)
    from alexnet_tf1.reporting import compare_plot  # matplotlib takes half a second

    compare_plot.draw(found, metrics, folder / PICTURE, software=MARK)
    page = f"<!-- written by {MARK} -->\n{report.comparison(found)}\n\n![]({PICTURE})\n"
    files.write_bytes(folder / TABLE, page.encode("utf-8"))


def _check_ours(path: Path) -> None:
    """Refuses to write over what `compare` did not write."""
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
