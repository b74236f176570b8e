"""Reads metrics.jsonl and checks each of its records."""

import json
import os
from pathlib import Path
from typing import Any, Final

from alexnet_tf1 import files
from alexnet_tf1.errors import UserError

MAX_BYTES: Final = 1 << 28  # a line has some 100, and a run rarely 10,000 lines
MOST_STEPS: Final = 2**53  # above, floats skip whole numbers
LARGEST: Final = 1e30  # matplotlib has no axis for much more
_FIGURES: Final = (
    *("loss", "accuracy", "images_per_s"),
    *("test_accuracy", "batch_statistics_accuracy"),
)


def read(path: Path, *, cut_short: bool = False) -> list[dict[str, Any]]:
    """Reads a file of records, one a line, the oldest first; none where there is no file.

    Args:
      path: of metrics.jsonl.
      cut_short: whether its last line may be cut short, as a kill leaves it: it is left out.

    Raises:
      UserError: if it cannot be read, or a line is not a record.
    """
    if not os.path.lexists(path):
        return []
    lines = files.read_text(path, MAX_BYTES).splitlines(keepends=True)
    if cut_short and lines and not lines[-1].endswith("\n"):
        del lines[-1]
    return [record(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def record(line: str | bytes, source: str) -> dict[str, Any]:
    """Parses a record: a JSON object with a step, whose known figures are numbers or null.

    Raises:
      UserError: if it is none; `source` names the line.
    """
    found = files.parse_json(line, source)
    if not isinstance(found, dict):
        raise UserError(f"{source} is not a JSON object; delete the line")
    step = found.get("step")
    if type(step) is not int or not 0 <= step < MOST_STEPS:
        raise UserError(f"{source} names no step; delete the line")
    for key in _FIGURES:
        number(found, key, source)
    return found


def number(values: dict[str, Any], key: str, source: str) -> Any:
    """Reads a number, or None if there is none; refuses all else, and what is out of range.

    Raises:
      UserError: if it is refused; `source` names where it stands.
    """
    value = values.get(key)
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    least, most = (0, 1) if "accuracy" in key else (-LARGEST, LARGEST)
    if not is_number or not least <= value <= most:  # so is NaN
        raise UserError(
            f"{source}: {key} cannot be {json.dumps(value)[:40]}; restore it from a copy"
        )
    return value
