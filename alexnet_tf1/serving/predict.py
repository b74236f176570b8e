"""Classifies picture files with a trained run, each picture by itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow.compat.v1 as tf

from alexnet_tf1.alexnet import build_for_testing
from alexnet_tf1.data.batches import SCALED
from alexnet_tf1.errors import UserError
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs import network
from alexnet_tf1.serving import images as pictures
from alexnet_tf1.serving import servable
from alexnet_tf1.session import open_session

CLASSES = 10


def predict(
    run_dir: str, images: Sequence[str], *, checkpoint: str | None = None, top: int = 3
) -> dict[str, Any]:
    """Classifies picture files, each by itself: its answer does not depend on the others.

    It computes in inference, in float32 and with TensorFlow's own ops, whatever the run was
    trained with. All four normalisations read moving averages or recalibrated statistics; a model
    that has neither is refused, as its answer to a single image would be chance. The data set is
    not needed: its name is in the run folder, and CIFAR-10's class names are the published ones.

    Args:
      run_dir: the run folder.
      images: paths of picture files, at least one; see serving/images.py for what is made of them.
      checkpoint: a checkpoint's prefix or step; None for the newest.
      top: classes to name for each image, 1 to 10.

    Returns:
      A JSON-ready dict: run, checkpoint, steps (trained), dataset ("cifar10" or "synthetic"),
      statistics ("moving averages" or "recalibrated"), start_left (the largest share of its
      initial value left in a moving average, 0 to 1), and images: for each, in the order given,
      image (its path) and classes: the `top` likeliest first, class (its name), label (0..9) and
      probability (0 to 1; all ten add up to 1). Of several images those that cannot be used are
      left out; then there is refused too, a line for each.

    Raises:
      UserError: if the run, the checkpoint or the only image cannot be used, or the model cannot
        judge a single image.
    """
    if not 1 <= top <= CLASSES:
        raise UserError(f"--top {top} is not in 1 to {CLASSES}, the classes there are")
    if not images:
        raise UserError("no image is given; name a PNG, JPEG, BMP or GIF file")
    run = runs.open_run(run_dir)
    path = run.checkpoint(checkpoint)
    statistics = servable.statistics(run, path)
    dataset = servable.dataset_name(run)
    read, refused = [], []
    for image in images:
        try:
            read.append((image, pictures.read(image)))
        except UserError as error:
            if len(images) == 1:
                raise
            refused.append(str(error))
    with tf.Graph().as_default(), open_session() as session:
        net = build_for_testing("ema")
        network.restore(session, net, path)
        steps = int(session.run(net.global_step))
        start_left = max(norm.decay for norm in net.norms) ** steps
        probabilities = [  # in batches of one, [1, 3072], channel-major
            session.run(
                net.probabilities,
                {
                    net.images: SCALED[pixels.transpose(2, 0, 1).reshape(1, -1)],
                    net.is_training: False,
                },
            )[0]
            for _, pixels in read
        ]
    if not np.isfinite(probabilities).all():
        raise UserError(f"{path} gives no numbers (NaN); the run diverged, train anew")
    return {
        "run": run_dir,
        "checkpoint": path,
        "steps": steps,
        "dataset": dataset,
        "statistics": statistics,
        "start_left": 0.0 if statistics == servable.RECALIBRATED else start_left,
        "images": [
            {"image": image, "classes": _likeliest(found, servable.CLASS_NAMES[dataset], top)}
            for (image, _), found in zip(read, probabilities, strict=True)
        ],
        **({"refused": refused} if refused else {}),
    }


def _likeliest(
    probabilities: npt.NDArray[np.float32], names: Sequence[str], top: int
) -> list[dict[str, Any]]:
    """Names the `top` classes, the likeliest first; of equal ones the lower label, as argmax."""
    return [
        {"class": names[label], "label": int(label), "probability": float(probabilities[label])}
        for label in np.argsort(-probabilities, kind="stable")[:top]
    ]
