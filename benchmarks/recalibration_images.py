"""How many training images a recalibration needs, and which way of estimating is better.

    python benchmarks/recalibration_images.py RUN... [--checkpoint STEP] [--data-dir DIR]

For each run, the accuracy on the whole test set with moving averages in all four normalisations,
before and after re-estimating them from N images: layer by layer in inference mode, and in one
pass in batch-statistics mode with batches of 20 and of 100. No checkpoint is written.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

from alexnet_tf1 import evaluate
from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.batchnorm.population import Population, Recalibration, Statistics
from alexnet_tf1.data.batches import Batches
from alexnet_tf1.gap.recalibrate import restored
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs import network

IMAGES = (500, 1_000, 5_000, 10_000)


def in_one_pass(
    session: Any, net: AlexNet, repair: Recalibration, feeds: Iterator[dict[Any, Any]]
) -> dict[str, Statistics]:
    """Estimates all layers from the same batches, whose inputs are normalised with the batch."""
    found = {norm.name: Population() for norm in net.norms}
    for feed in feeds:
        moments = session.run(repair.batch_moments, feed)
        for population, (mean, variance) in zip(found.values(), moments, strict=True):
            population.add(mean, variance)
    return {name: population.statistics() for name, population in found.items()}


def study(folder: str, checkpoint: str | None, data_dir: str | None) -> None:
    run = runs.open_run(folder)
    path = run.checkpoint(checkpoint)
    data = network.load_data(run, data_dir)
    config = dataclasses.replace(run.config, fc_batch_norm="ema")
    with restored(config, path) as (session, net, repair):

        def accuracy() -> str:
            return f"{100 * evaluate.hits(session, net, data.test, 500).mean():.2f}"

        def feeds(images: int, size: int, is_training: bool) -> Iterator[dict[Any, Any]]:
            batches = Batches(data.train, run.config.seed)
            for _ in range(images // size):
                yield {net.images: batches.next_batch(size)[0], net.is_training: is_training}

        print(f"| {folder}, {path.rpartition('-')[2]} steps | before | {accuracy()} | | |")
        for images in IMAGES:
            repair.layer_by_layer(session, lambda n=images: feeds(n, 100, False))
            found = [accuracy()]
            for size in (20, 100):
                repair.assign(session, in_one_pass(session, net, repair, feeds(images, size, True)))
                found.append(accuracy())
            print(f"| | {images:,} | {' | '.join(found)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="+")
    parser.add_argument("--checkpoint")
    parser.add_argument("--data-dir")
    options = parser.parse_args()
    print("| run | images | layer by layer | one pass, batches of 20 | one pass, batches of 100 |")
    print("|---|---|---|---|---|")
    for folder in options.run:
        study(folder, options.checkpoint, options.data_dir)


if __name__ == "__main__":
    main()
