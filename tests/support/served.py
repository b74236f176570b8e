"""A short run with moving averages in all layers, for the tests of what may be served."""

import dataclasses
import shutil

import pytest

from alexnet_tf1.config import TrainConfig
from alexnet_tf1.gap import recalibrate as gap
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.supervisor.run import run_training
from support.small_network import make_small
from support.small_set import SMALL

STEPS = 30


def train_both(folder):
    """Trains folder/ema; folder/batch has its weights and the original's setting, recalibrated."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch.setattr, SMALL)
        run_training(
            TrainConfig(
                dataset="synthetic", steps=STEPS, batch_size=4, fc_batch_norm="ema",
                run_dir=str(folder / "ema"), log_every=STEPS, test_every=10_000,
            )
        )  # fmt: skip
        variant(folder / "ema", folder / "batch", fc_batch_norm="batch")
        gap.recalibrate(str(folder / "batch"), images=100)


def variant(run_folder, folder, **settings):
    """Copies a run and changes settings in the copy's config.json."""
    shutil.copytree(run_folder, folder)
    run = runs.open_run(str(folder))
    runs.save_config(runs.Run(folder, dataclasses.replace(run.config, **settings)))
    return folder
