"""Writes diagnose.json and diagnose.png."""

from pathlib import Path
from typing import Any

from alexnet_tf1 import files
from alexnet_tf1.errors import UserError
from alexnet_tf1.reporting import plots

_JSON, _PICTURE = "diagnose.json", "diagnose.png"


def check_place(folder: Path) -> None:
    """Finds out before minutes of measuring whether `write` can write there; changes nothing.

    Raises:
      UserError: if not.
    """
    made = _make(folder)
    try:
        files.check_writable(folder, _JSON, _PICTURE)
    except UserError as error:
        raise UserError(f"{error}, or name another folder: --out") from None
    finally:
        files.remove_empty(made)


def write(found: dict[str, Any], folder: Path) -> None:
    """Writes both files into a folder, which is made if needed.

    Args:
      found: the content of diagnose.json.
      folder: for the two files.

    Raises:
      UserError: if they cannot be written.
    """
    _make(folder)
    files.write_json(folder / _JSON, found)
    plots.diagnosis(found, folder / _PICTURE)


def _make(folder: Path) -> list[Path]:
    try:
        return files.make_folders(folder)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--out {folder} cannot be made ({files.reason(error)}); name another folder"
        ) from None
