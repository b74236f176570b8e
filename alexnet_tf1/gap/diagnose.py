"""Measures and explains a run's training-vs-inference gap."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.batchnorm.audit import audit_graph
from alexnet_tf1.batchnorm.doctor import examine_checkpoint
from alexnet_tf1.batchnorm.model.diagnose import measure
from alexnet_tf1.batchnorm.model.trial import Trial
from alexnet_tf1.batchnorm.model.verdict import Remedies, verdict
from alexnet_tf1.batchnorm.report import Fault
from alexnet_tf1.data.batches import SCALED
from alexnet_tf1.data.dataset import Split
from alexnet_tf1.gap.recalibrate import (
    RECALIBRATION_IMAGES,
    check_images,
    estimated,
    fed,
    prepared_for,
    restored,
)
from alexnet_tf1.reporting import diagnosis, progress
from alexnet_tf1.reporting.next_steps import quoted
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs import network

DIAGNOSIS_IMAGES: Final = 2_000


def diagnose(
    run_dir: str,
    *,
    checkpoint: str | None = None,
    images: int = DIAGNOSIS_IMAGES,
    data_dir: str | None = None,
    out: str | None = None,
) -> dict[str, Any]:
    """Measures the gap between a run's accuracy in training and in inference, and explains it.

    Writes diagnose.json and diagnose.png.

    Args:
      run_dir: the run folder.
      checkpoint: a checkpoint's prefix or step; None for the newest.
      images: test images to measure on, the first of the test set.
      data_dir: folder of CIFAR-10; None for the run's.
      out: folder for the two files; None for the run folder.

    Returns:
      The content of diagnose.json: run, checkpoint, dataset, images, batch_size, layers (name,
      moving_averages, lag, mean_distance, variance_distance), faults (rule, layer, message),
      cells, gap_points, repeatable, changed_variables, verdict (sentences).

    Raises:
      UserError: if the run, checkpoint or data cannot be used.
    """
    run = runs.open_run(run_dir)
    target = run.folder if out is None else Path(out)
    diagnosis.check_place(target)
    path = run.checkpoint(checkpoint)
    data = network.load_data(run, data_dir)
    check_images(images, len(data.test.labels))
    test = Split(data.test.images[:images], data.test.labels[:images])
    with restored(run.config, path) as (session, net):
        prepared = prepared_for(session, net)
        precise = estimated(prepared, run.config, data, RECALIBRATION_IMAGES)
        trial = Trial(prepared, fed(net, SCALED[test.images]), run.config.batch_size)
        faults = [*_audit(session.graph, net), *examine_checkpoint(path).faults]
        with progress.bars("images") as told:
            found = measure(
                trial, labels=test.labels, statistics=precise, faults=faults, progress=told
            )
        steps = session.run(net.global_step)
    for row, norm in zip(found["layers"], net.norms, strict=True):
        never_updated = ("BN101", norm.name) in {(fault.rule, fault.layer) for fault in faults}
        row["lag"] = norm.decay ** (0 if never_updated else steps)
    found = {
        "run": run_dir,
        "checkpoint": path,
        "dataset": network.describe(data),
        **found,
        "images": images,
    }
    found["verdict"] = verdict(found, _remedies(run_dir))
    diagnosis.write(found, target)
    return found


def _remedies(run_dir: str) -> Remedies:
    """Names the commands that mend a run of ours."""
    recalibrate = f"`alexnet-tf1 recalibrate {quoted(run_dir)}`"
    return Remedies(
        recalibrate,
        update="train with --update-ops control",
        alone=f"train with --fc-batch-norm ema, or {recalibrate} and then use --fc-batch-norm ema",
    )


def _audit(graph: Any, net: AlexNet) -> Sequence[Fault]:
    """Audits the graph that a run trains."""
    return audit_graph(
        graph, train_ops=[net.train_op], logits=net.logits, is_training=net.is_training
    ).faults
