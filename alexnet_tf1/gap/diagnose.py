"""Measures and explains a run's training-vs-inference gap."""

from collections.abc import Sequence
from typing import Any

from alexnet_tf1 import files
from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.batchnorm.audit import audit_graph
from alexnet_tf1.batchnorm.doctor import examine_checkpoint
from alexnet_tf1.batchnorm.model.diagnose import measure
from alexnet_tf1.batchnorm.model.trial import Trial
from alexnet_tf1.batchnorm.model.verdict import verdict
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
from alexnet_tf1.reporting import plots
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs import network


def diagnose(
    run_dir: str, *, checkpoint: str | None = None, images: int = 2_000, data_dir: str | None = None
) -> dict[str, Any]:
    """Measures the gap between a run's accuracy in training and in inference, and explains it.

    Writes diagnose.json and diagnose.png into the run folder.

    Args:
      run_dir: the run folder.
      checkpoint: a checkpoint's prefix or step; None for the newest.
      images: test images to measure on, the first of the test set.
      data_dir: folder of CIFAR-10; None for the run's.

    Returns:
      The content of diagnose.json: run, checkpoint, dataset, images, batch_size, layers (name,
      moving_averages, lag, mean_distance, variance_distance), faults (rule, layer, message),
      cells, gap_points, repeatable, changed_variables, verdict (sentences).

    Raises:
      UserError: if the run, checkpoint or data cannot be used.
    """
    run = runs.open_run(run_dir)
    files.check_writable(run.folder, "diagnose.json", "diagnose.png")
    path = run.checkpoint(checkpoint)
    data = network.load_data(run, data_dir)
    check_images(images, len(data.test.labels))
    test = Split(data.test.images[:images], data.test.labels[:images])
    with restored(run.config, path) as (session, net):
        prepared = prepared_for(session, net)
        precise = estimated(prepared, run.config, data, RECALIBRATION_IMAGES)
        trial = Trial(prepared, fed(net, SCALED[test.images]), run.config.batch_size)
        faults = [*_audit(session.graph, net), *examine_checkpoint(path).faults]
        found = measure(trial, labels=test.labels, statistics=precise, faults=faults)
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
    found["verdict"] = verdict(found)
    files.write_json(run.folder / "diagnose.json", found)
    plots.diagnosis(found, run.folder / "diagnose.png")
    return found


def _audit(graph: Any, net: AlexNet) -> Sequence[Fault]:
    """Audits the graph that a run trains."""
    return audit_graph(
        graph, train_ops=[net.train_op], logits=net.logits, is_training=net.is_training
    ).faults
