"""What each command does with its options: one call, and what it prints.

TensorFlow is imported in the calls only.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from typing import Any

from alexnet_tf1.config import TrainConfig
from alexnet_tf1.distributed.cluster import from_environment
from alexnet_tf1.errors import UserError
from alexnet_tf1.reporting import text as report

DONE, FAULTS, BAD_INPUT = 0, 1, 2


def train(resume: bool, quiet: bool, **given: Any) -> int:
    """Trains; `quiet` is no setting of the run. The status is 128 + N when signal N stopped it.

    With a TF_CONFIG of several workers this process is one of them, and unless it is the chief it
    has no run folder.
    """
    from alexnet_tf1.runs.resume import settings

    cluster = from_environment()
    if cluster and not cluster.is_chief:
        wanted = TrainConfig.from_options(given)  # checks what was typed
        import_tensorflow()
        from alexnet_tf1.distributed.worker import follow

        signal = follow(cluster, given if resume else dataclasses.asdict(wanted), quiet=quiet)
        return DONE if signal is None else 128 + signal
    config = settings(given) if resume else TrainConfig.from_options(given)
    import_tensorflow()
    from alexnet_tf1.supervisor import run as training

    found = training.train(config, resume=resume, quiet=quiet, cluster=cluster)
    stopped_by = found["stopped_by"]
    return DONE if stopped_by is None else 128 + int(stopped_by)


def launch(workers: int, training: list[str]) -> int:
    """Trains with local workers; the status is the first that is not 0."""
    from alexnet_tf1.distributed import launch as launching

    return launching.launch(workers, training)


def evaluate(run: str, as_json: bool, **settings: Any) -> int:
    """Prints the accuracy in both modes."""
    import_tensorflow()
    from alexnet_tf1 import evaluate as evaluation

    found = evaluation.evaluate(run, **settings)
    print(json.dumps(found, indent=2) if as_json else report.evaluation(found))
    return DONE


def diagnose(run: str, as_json: bool, fail_gap: float | None, **settings: Any) -> int:
    """Prints the gap, measured; the status is 1 when it is above fail_gap."""
    import_tensorflow()
    from alexnet_tf1.gap import diagnose as gap

    found = gap.diagnose(run, **settings)
    print(json.dumps(found, indent=2) if as_json else report.diagnosis(found))
    return FAULTS if fail_gap is not None and found["gap_points"] > fail_gap else DONE


def audit(
    graph: str, as_json: bool, train_op: list[str] | None, logits: str | None, is_training: Any
) -> int:
    """Prints the faults of a graph; the status is 1 if there are any."""
    import_tensorflow()
    from alexnet_tf1.batchnorm.audit import audit_file

    found = audit_file(graph, train_op, logits, is_training).to_json(graph)
    print(json.dumps(found, indent=2) if as_json else report.faults(graph, found))
    return FAULTS if found["faults"] else DONE


def doctor(checkpoint: str, as_json: bool) -> int:
    """Prints the faults of a checkpoint; the status is 1 if there are any."""
    import_tensorflow()
    from alexnet_tf1.batchnorm.doctor import examine_checkpoint

    found = examine_checkpoint(checkpoint).to_json()
    print(json.dumps(found, indent=2) if as_json else report.faults(found["checkpoint"], found))
    return FAULTS if found["faults"] else DONE


def recalibrate(run: str, **settings: Any) -> int:
    """Prints what recalibration changed."""
    import_tensorflow()
    from alexnet_tf1.gap import diagnose as gap

    print(report.recalibration(gap.recalibrate(run, **settings)))
    return DONE


def predict(run: str, images: list[str], as_json: bool, **settings: Any) -> int:
    """Prints the likeliest classes of picture files."""
    import_tensorflow()
    from alexnet_tf1.serving import predict as prediction

    found = prediction.predict(run, images, **settings)
    print(json.dumps(found, indent=2) if as_json else report.prediction(found))
    return DONE


def export(run: str, target: str, as_json: bool, **settings: Any) -> int:
    """Writes a SavedModel and prints where."""
    import_tensorflow()
    from alexnet_tf1.serving import export as exporting

    found = exporting.export(run, target, **settings)
    print(json.dumps(found, indent=2) if as_json else report.export(found))
    return DONE


def env(as_json: bool) -> int:
    """Prints versions, devices, where the data is, and what to install.

    Raises:
      UserError: if TensorFlow cannot be imported.
    """
    try:
        import_tensorflow()
    except ImportError as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"TensorFlow cannot be imported ({reason}); "
            'pip install --force-reinstall "tensorflow>=2.16,<3"'
        ) from None
    from alexnet_tf1.system import environment

    found = environment.environment()
    print(json.dumps(found, indent=2) if as_json else report.environment(found))
    return DONE


def compare(folders: list[str], out: str, as_json: bool) -> int:
    """Prints runs side by side; needs no TensorFlow."""
    from alexnet_tf1.reporting import compare as comparing

    found = comparing.compare(folders, out)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print(report.comparison(found), "", sep="\n")
        print(report.one_line(f"written: {', '.join(found['files'])}"))
    return DONE


def import_tensorflow() -> None:
    """Imports TensorFlow with its start-up chatter kept off the console.

    TF_CPP_MIN_LOG_LEVEL silences what is logged later, but not the lines that the C++ libraries
    write while they are loaded, so those go to a file. If the import fails, they are shown. Its
    Python warns of its own calls that are deprecated, which whoever trains can do nothing about.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    console = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            import tensorflow

            tensorflow.get_logger().setLevel("ERROR")
        except BaseException:
            chatter.seek(0)
            os.write(console, chatter.read())
            raise
        finally:
            os.dup2(console, 2)
            os.close(console)
