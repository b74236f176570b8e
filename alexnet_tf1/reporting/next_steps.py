"""Names the commands that come next, to be copied from the screen."""

import shlex
from typing import Any

from alexnet_tf1.reporting.text import one_line
from alexnet_tf1.system.terminal import COMMAND

LARGE_GAP = 2.0  # points; runs in order measured at most 0.7 (docs/gap.md)


def quoted(path: str) -> str:
    """Quotes a path for a shell; "./" goes before a dash, which would begin an option."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)


def after_stop(folder: str, workers: int) -> list[str]:
    """Names the command that goes on with a stopped run."""
    where = "On every worker, go on with:" if workers > 1 else "Go on with:"
    return [where, command(f"train --resume --run-dir {quoted(folder)}")]


def after_gap(folder: str, points: float) -> list[str]:
    """Names the commands that measure and mend a large gap; none for a small one.

    Args:
      folder: of the run.
      points: batch-statistics accuracy minus inference accuracy, in percentage points.
    """
    if not points > LARGE_GAP:
        return []
    return [
        f"{points:.2f} points worse in inference than with batch statistics. This tells why:",
        command(f"diagnose {quoted(folder)}"),
        "This mends it, in a new checkpoint; no weight changes:",
        command(f"recalibrate {quoted(folder)}"),
    ]


def after_recalibration(found: dict[str, Any]) -> list[str]:
    """Says which commands use the new statistics from now on; `found` from gap.recalibrate."""
    evaluate = f"evaluate {quoted(found['run'])}"
    lines = [
        "From now on evaluate, diagnose, predict and export use it, as the run's newest; "
        "train --resume goes on from the newest checkpoint of training.",
    ]
    if "batch" in found["test_accuracy_full"]:  # the run's own setting
        lines += [
            "evaluate and diagnose still normalise the fully connected layers with the test batch, "
            "as the run did. With the new statistics in all four, as predict and export:",
            command(f"{evaluate} --fc-batch-norm ema"),
        ]
    return [
        *lines,
        "The checkpoint as it was:",
        command(f"{evaluate} --checkpoint {quoted(found['source'])}"),
    ]


def command(text: str) -> str:
    """Makes a line of a command, which `terminal.show` does not break."""
    return one_line(f"{COMMAND}alexnet-tf1 {text}")
