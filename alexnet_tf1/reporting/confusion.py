"""Counts and draws the classes that a model confuses, and the images it is most surely wrong on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.errors import UserError

MATRIX, WORST = "confusion.png", "worst.png"
ROWS, COLUMNS = 5, 8  # of images in worst.png
DARK: Final = 0.5  # share of a row from which a cell has white letters

Counts = npt.NDArray[np.int64]


def matrix(labels: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> Counts:
    """Counts how often each true class, a row, is predicted as each class, a column.

    Args:
      labels: integers [N], the true classes.
      predicted: integers [N], the predicted ones.
      classes: number of classes.

    Returns:
      int64 [classes, classes].
    """
    pairs = classes * np.asarray(labels, np.int64) + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def shares(counts: Counts) -> npt.NDArray[np.float64]:
    """Divides the counts of each true class, a row, by their sum; 0 for a class without images."""
    totals: Counts = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.asarray(counts / totals, np.float64)


def worst(
    labels: npt.NDArray[np.int64], logits: npt.NDArray[np.float32], most: int
) -> list[dict[str, Any]]:
    """Finds the misclassified images whose true class has the lowest probability.

    Args:
      labels: int64 [N], the true classes.
      logits: float32 [N, classes].
      most: most images to return.

    Returns:
      JSON-ready, the highest loss first and the earlier image first among equals: index (from 0,
      in the split's order), label, predicted, probability (of the predicted class, 0 to 1), loss
      (nats).
    """
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    log_probabilities = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    predicted = logits.argmax(axis=1)
    losses = -log_probabilities[np.arange(len(labels)), labels]
    order = np.argsort(-losses, kind="stable")
    order = order[predicted[order] != labels[order]][:most]
    return [
        {
            "index": int(index),
            "label": int(labels[index]),
            "predicted": int(predicted[index]),
            "probability": float(np.exp(log_probabilities[index, predicted[index]])),
            "loss": float(losses[index]),
        }
        for index in order
    ]


def write(
    found: dict[str, Any], data: Dataset, logits: npt.NDArray[np.float32], folder: Path
) -> dict[str, Any]:
    """Writes the two pictures into a run folder.

    Args:
      found: the result of evaluate.evaluate.
      data: the data set whose test split was tested.
      logits: float32 [N, 10], of the test split in inference.
      folder: of the run.

    Returns:
      JSON-ready: class_names, confusion (counts; rows are true classes), worst, pictures.

    Raises:
      UserError: if a picture cannot be written, or a logit is infinite or not a number.
    """
    if not np.isfinite(logits).all():
        raise UserError(
            f"{found['checkpoint']} gives logits that are not finite; the run diverged, train anew"
        )
    counts = matrix(data.test.labels, logits.argmax(axis=1), len(data.class_names))
    wrong = worst(data.test.labels, logits, ROWS * COLUMNS)
    draw_matrix(counts, data.class_names, found, folder / MATRIX)
    _draw_worst(wrong, data, found, folder / WORST)
    return {
        "class_names": list(data.class_names),
        "confusion": counts.tolist(),
        "worst": wrong,
        "pictures": {"confusion": str(folder / MATRIX), "worst": str(folder / WORST)},
    }


def draw_matrix(counts: Counts, names: Sequence[str], found: dict[str, Any], path: Path) -> None:
    """Draws the counts, each with its share of its row, on 1440 x 1408 pixels.

    Args:
      counts: as `matrix` gives them.
      names: of the classes.
      found: the result of evaluate.evaluate: dataset, batch_size, checkpoint, test_accuracy_full.
      path: of the PNG file.
    """
    # Imported here: matplotlib takes half a second, and `evaluate` without pictures needs none.
    from matplotlib.figure import Figure

    from alexnet_tf1.reporting import plots

    figure = Figure(figsize=(9, 8.8), dpi=plots.DPI, layout="constrained")
    axes = figure.subplots()
    totals = counts.sum(axis=1, keepdims=True)
    # One hue, from white to dark: it keeps its order in grey print and for every reader.
    axes.imshow(shares(counts), cmap="Blues", vmin=0, vmax=1)
    for (true, predicted), share in np.ndenumerate(shares(counts)):
        axes.text(
            predicted,
            true,
            f"{counts[true, predicted]:,}\n{100 * share:.1f}%",
            ha="center",
            va="center",
            fontsize=8.5,
            color="white" if share > DARK else "black",
        )
    places = range(len(names))
    axes.set_xticks(places, names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(
        places, [f"{name} ({n:,})" for name, n in zip(names, totals[:, 0], strict=True)]
    )
    axes.set(xlabel="predicted class", ylabel="true class (images)")
    axes.set_title(
        f"{counts.sum():,} test images of {plots.name_of(found['dataset'])}, in batches of "
        f"{found['batch_size']}\n"
        f"inference, {Path(found['checkpoint']).name}: {100 * found['test_accuracy_full']:.2f}% "
        "right\nin a cell: images, and their share of the true class",
        size=11,
    )
    plots.save(figure, path)


def _draw_worst(
    wrong: Sequence[dict[str, Any]], data: Dataset, found: dict[str, Any], path: Path
) -> None:
    """Draws the images that `worst` found, row by row, on 1760 x 1536 pixels."""
    from matplotlib.figure import Figure

    from alexnet_tf1.reporting import plots

    figure = Figure(figsize=(11, 9.6), dpi=plots.DPI)
    # Fixed places: matplotlib's automatic layout takes seconds for 40 plots.
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.89, wspace=0.06, hspace=0.45)
    for place, image in enumerate(wrong, 1):
        axes = figure.add_subplot(ROWS, COLUMNS, place)
        axes.axis("off")
        pixels = data.test.images[image["index"]].reshape(3, 32, 32).transpose(1, 2, 0)
        axes.imshow(pixels, interpolation="nearest")
        axes.set_title(
            f"{data.class_names[image['label']]}\n→ {data.class_names[image['predicted']]}\n"
            f"{100 * image['probability']:.1f}%",
            fontsize=8.5,
        )
    tested = found["dataset"]["test_images"]
    count = tested - round(tested * found["test_accuracy_full"])
    figure.suptitle(
        f"{len(wrong)} of {count:,} misclassified test images of "
        f"{plots.name_of(found['dataset'])}, highest loss first\n"
        f"inference, {Path(found['checkpoint']).name}; true class → predicted class, its "
        "probability",
        size=11,
    )
    plots.save(figure, path)
