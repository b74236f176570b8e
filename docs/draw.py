"""Draws the pictures of these pages again, from the runs recorded in docs/recorded/.

    python docs/draw.py     # or: make pictures

tensorboard.png alone is not drawn: it is a browser's window. tests/test_docs.py finds out by a
checksum whether the program or a record has changed since.
"""

from __future__ import annotations

import inspect
import json
import shutil
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import recipes

from alexnet_tf1.data.cifar10 import CLASS_NAMES
from alexnet_tf1.reporting import compare, compare_plot, confusion, plots
from alexnet_tf1.runs.folder import open_run

DOCS = Path(__file__).parent
RECORDED, DRAWN = DOCS / "recorded", DOCS / "recorded/drawn.txt"
DIAGNOSES = {
    "gap.png": "orig_s0",
    "gap_none.png": "none_s0",
    "gap_ema.png": "ema_s0",
    "gap_ema_none.png": "ema_none_s0",
    "foreign_gap.png": "foreign",
}
COMPARED = ("orig_s0", "none_s0", "ema_none_s0")


def record(name: str) -> Any:
    """Reads a file of docs/recorded/."""
    return json.loads((RECORDED / name).read_text(encoding="utf-8"))


def draw(folder: Path) -> None:
    """Draws every picture into a folder."""
    for name, run in DIAGNOSES.items():
        plots.diagnosis(record(f"{run}/diagnose.json"), folder / name)
    seed_2 = open_run(str(RECORDED / "orig_s2"))
    plots.curves(seed_2.metrics(), record("orig_s2/result.json"), folder / "curves.png")
    found = record("orig_s0/confusion.json")
    counts = np.array(found["confusion"])
    confusion.draw_matrix(counts, CLASS_NAMES, found, folder / "confusion.png")
    recipes.picture(record("recipes.json"), folder / "recipes.png")
    with tempfile.TemporaryDirectory() as aside:  # compare writes its table, too
        compare.compare([str(RECORDED / run) for run in COMPARED], aside)
        shutil.copy(Path(aside) / compare.PICTURE, folder / "compare.png")


def checksum() -> str:
    """Sums up what the pictures are made by and of; a comment changes it as well."""
    code = [plots, compare_plot, confusion.draw_matrix, recipes.picture, draw]
    parts = [inspect.getsource(part).encode() for part in code]
    parts += [path.read_bytes() for path in sorted(RECORDED.rglob("*.json*"))]
    return f"{zlib.crc32(b''.join(parts)):08x}\n"


if __name__ == "__main__":
    draw(DOCS)
    DRAWN.write_text(checksum(), encoding="utf-8")
