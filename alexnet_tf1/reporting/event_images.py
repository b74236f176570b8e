"""Draws the confusion matrix and the worst images for TensorBoard, in a few milliseconds.

`evaluate --pictures` draws the same larger, with matplotlib, which would add seconds to every run.
"""

import io
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.reporting import confusion

WIDTH, HEIGHT = 48, 24  # of a cell of the matrix, in pixels; so are all below
MARGIN: Final = 110  # for the names of the classes
SIDE: Final = 96  # of an image, thrice its own
BELOW: Final = 32  # for the two lines below an image
BESIDE: Final = 28  # between images: the lines may be wider


class Drawn(NamedTuple):
    """A picture."""

    width: int
    height: int
    png: bytes


def confusion_matrix(counts: confusion.Counts, names: Sequence[str]) -> Drawn:
    """Draws how many images of each true class, a row, were predicted as each class, a column."""
    page = _page(MARGIN + WIDTH * len(names), MARGIN + HEIGHT * len(names))
    headings = _page(MARGIN, WIDTH * len(names))  # to be turned
    draw, across = ImageDraw.Draw(page), ImageDraw.Draw(headings)
    for place, name in enumerate(names):
        across.text((4, WIDTH * place + 18), name, "black")
        draw.text((4, MARGIN + HEIGHT * place + 6), name, "black")
    page.paste(headings.transpose(Image.Transpose.ROTATE_90), (MARGIN, 0))
    draw.text((4, MARGIN - 16), "true, predicted:", "gray")
    for (row, column), share in np.ndenumerate(confusion.shares(counts)):
        left, top = MARGIN + WIDTH * column, MARGIN + HEIGHT * row
        light = round(255 * (1 - share))
        draw.rectangle((left, top, left + WIDTH - 1, top + HEIGHT - 1), (light, light, 255))
        ink = "white" if share > confusion.DARK else "black"
        draw.text((left + 6, top + 6), f"{counts[row, column]:,}", ink)
    return _drawn(page)


def worst(wrong: Sequence[dict[str, Any]], data: Dataset) -> Drawn:
    """Draws misclassified test images row by row: true class > predicted one, its probability.

    Args:
      wrong: from confusion.worst.
      data: whose test split was classified.
    """
    columns = min(confusion.COLUMNS, max(len(wrong), 1))
    rows = -(-len(wrong) // columns)
    page = _page(columns * (SIDE + BESIDE), max(rows, 1) * (SIDE + BELOW))
    draw = ImageDraw.Draw(page)
    for place, image in enumerate(wrong):
        row, column = divmod(place, columns)
        left, top = column * (SIDE + BESIDE) + 4, row * (SIDE + BELOW)
        pixels = data.test.images[image["index"]].reshape(3, 32, 32).transpose(1, 2, 0)
        shown = Image.fromarray(np.ascontiguousarray(pixels))
        page.paste(shown.resize((SIDE, SIDE), Image.Resampling.NEAREST), (left, top))
        true, predicted = (data.class_names[image[key]] for key in ("label", "predicted"))
        said = f"{true}\n> {predicted} {100 * image['probability']:.0f}%"
        draw.text((left, top + SIDE), said, "black", spacing=0)
    return _drawn(page)


def _page(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), "white")


def _drawn(page: Image.Image) -> Drawn:
    file = io.BytesIO()
    page.save(file, "PNG")
    return Drawn(page.width, page.height, file.getvalue())
