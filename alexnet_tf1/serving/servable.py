"""Finds out whether a checkpoint can judge images one by one, for `predict` and `export`."""

import re
from pathlib import Path

from alexnet_tf1 import files
from alexnet_tf1.batchnorm.doctor import examine_checkpoint
from alexnet_tf1.data import cifar10, synthetic
from alexnet_tf1.errors import UserError
from alexnet_tf1.reporting.next_steps import quoted
from alexnet_tf1.runs import folder as runs

CLASS_NAMES = {"cifar10": cifar10.CLASS_NAMES, "synthetic": synthetic.CLASS_NAMES}
MOVING_AVERAGES, RECALIBRATED = "moving averages", "recalibrated"
_RECALIBRATED_NAME = re.compile(r"-recalibrated(-[0-9]+)?$")  # as gap.recalibrate writes them


def statistics(run: runs.Run, checkpoint: str) -> str:
    """Names the statistics that a single image is normalised by, as it has no batch.

    Args:
      run: whose settings the checkpoint was trained with.
      checkpoint: prefix of its files.

    Returns:
      "moving averages" or "recalibrated".

    Raises:
      UserError: if the checkpoint has neither: it normalises by the test batch, or its moving
        statistics were never updated, or are not finite.
    """
    mend = f"`alexnet-tf1 recalibrate {quoted(str(run.folder))}`"
    recalibrated = _RECALIBRATED_NAME.search(Path(checkpoint).name) is not None
    if run.config.fc_batch_norm == "batch" and not recalibrated:
        raise UserError(
            f"{checkpoint} cannot judge a single image: its fully connected layers normalise by "
            "the batch that an image is tested in, and by itself every image is answered alike; "
            f"run {mend}, or train with --fc-batch-norm ema"
        )
    # CK104, that not enough was trained, is a warning there.
    faults = [f for f in examine_checkpoint(checkpoint).faults if f.rule != "CK104"]
    if faults:
        layers = ", ".join(dict.fromkeys(fault.layer for fault in faults))
        raise UserError(
            f"{checkpoint} cannot judge a single image: {faults[0].message.partition('; ')[0]} "
            f"({faults[0].rule}; layers {layers}); run {mend}"
        )
    return RECALIBRATED if recalibrated else MOVING_AVERAGES


def dataset_name(run: runs.Run) -> str:
    """Reads the name of the data set that a run was trained on, "cifar10" or "synthetic".

    Raises:
      UserError: if the run folder names another.
    """
    path = run.folder / runs.DATA
    noted = files.read_json(path)
    name = noted.get("name") if isinstance(noted, dict) else run.config.dataset
    if name == "auto":  # a run that is older than this note
        name = "cifar10"
    if not isinstance(name, str) or name not in CLASS_NAMES:
        raise UserError(f"{path} names no data set known here; restore it from a copy")
    return name
