"""How many training images a recalibration needs, and which way of estimating is better.

    python benchmarks/recalibration_images.py RUN... [--checkpoint STEP] [--data-dir DIR]

For each run, the accuracy on the whole test set with moving averages in all four normalisations,
before and after re-estimating them from N images: layer by layer in inference mode, and in one
pass in batch-statistics mode with batches of 20 and of 100. No checkpoint is written.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np

from alexnet_tf1 import evaluate
from alexnet_tf1.batchnorm.model import wiring
from alexnet_tf1.batchnorm.model.feeds import Examples
from alexnet_tf1.batchnorm.model.live import assign
from alexnet_tf1.batchnorm.model.prepare import Prepared
from alexnet_tf1.batchnorm.model.setting import settings
from alexnet_tf1.batchnorm.model.trial import Trial
from alexnet_tf1.batchnorm.population import Population, Statistics
from alexnet_tf1.data.batches import Batches
from alexnet_tf1.gap.recalibrate import estimated, prepared_for, restored
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs import network

IMAGES = (500, 1_000, 5_000, 10_000)


def in_one_pass(trial: Trial) -> dict[str, Statistics]:
    """Estimates all layers from the same batches, whose inputs are normalised with the batch."""
    wired = wiring.with_batch_statistics(trial.prepared, trial.forms, trial.corrections)
    found = {layer: Population() for layer in wired.moments}
    with trial.copy_of(wired.graph_def) as copy:
        for start in range(0, len(trial.rows), trial.batch_size):
            rows = trial.rows[start : start + trial.batch_size]
            for layer, ((mean, variance),) in wired.moments.items():
                found[layer].add(*copy.run([mean, variance], trial.feed(rows)), len(rows))
    return {layer: population.statistics() for layer, population in found.items()}


def study(folder: str, checkpoint: str | None, data_dir: str | None) -> None:
    run = runs.open_run(folder)
    path = run.checkpoint(checkpoint)
    data = network.load_data(run, data_dir)
    config = dataclasses.replace(run.config, fc_batch_norm="ema")
    with restored(config, path) as (session, net):
        prepared: Prepared = prepared_for(session, net)

        def accuracy() -> str:
            return f"{100 * evaluate.hits(session, net, data.test, 500).mean():.2f}"

        def use(trial: Trial, statistics: dict[str, Statistics]) -> str:
            assign(session, settings(trial, statistics).values)
            return accuracy()

        print(f"| {folder}, {path.rpartition('-')[2]} steps | before | {accuracy()} | | |")
        for images in IMAGES:
            batches = Batches(data.train, run.config.seed)
            given = np.concatenate([batches.next_batch(100)[0] for _ in range(images // 100)])
            examples = Examples({prepared.arrays[0]: given}, {}, len(given))
            trials = [Trial(prepared, examples, size) for size in (20, 100)]
            found = [use(trials[0], estimated(prepared, run.config, data, images))]
            found += [use(trial, in_one_pass(trial)) for trial in trials]
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
