"""The commands: each is one call, and prints what came of it.

TensorFlow is imported in the calls only, so that --help and bad usage answer at once.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from typing import Any

from alexnet_tf1.cli import output
from alexnet_tf1.distributed.cluster import from_environment
from alexnet_tf1.errors import UserError
from alexnet_tf1.recipes.presets import settings_from

DONE, FAULTS, BAD_INPUT = 0, 1, 2


def train(resume: bool, quiet: bool, **given: Any) -> int:
    """Trains; the status is 128 + N if signal N stopped it.

    With a TF_CONFIG of several workers this process is one of them. Only the chief has a run
    folder.
    """
    from alexnet_tf1.runs.resume import settings

    cluster = from_environment()
    if cluster and not cluster.is_chief:
        wanted = settings_from(given)  # checks what was typed
        import_tensorflow()
        from alexnet_tf1.distributed.worker import follow

        signal = follow(cluster, given if resume else dataclasses.asdict(wanted), quiet=quiet)
        return DONE if signal is None else 128 + signal
    config = settings(given) if resume else settings_from(given)
    import_tensorflow()
    from alexnet_tf1.supervisor import run as supervisor

    found = supervisor.run_training(config, resume=resume, quiet=quiet, cluster=cluster)
    stopped_by = found["stopped_by"]
    return DONE if stopped_by is None else 128 + int(stopped_by)


def launch(workers: int, training: list[str]) -> int:
    """Trains with several processes; the status is the first of theirs that is not 0."""
    from alexnet_tf1.distributed import launch as launching

    return launching.launch(workers, training)


def evaluate(run: str, as_json: bool, **settings: Any) -> int:
    """Prints a run's accuracy in inference and with batch statistics."""
    import_tensorflow()
    from alexnet_tf1.gap.both_modes import evaluate_run

    found = evaluate_run(run, **settings)
    _show(found, output.evaluation(found), as_json)
    return DONE


def diagnose(run: str, as_json: bool, fail_gap: float | None, **settings: Any) -> int:
    """Prints a run's gap and its causes; the status is 1 if the gap is above `fail_gap`."""
    import_tensorflow()
    from alexnet_tf1.gap import diagnose as gap

    found = gap.diagnose(run, **settings)
    _show(found, output.diagnosis(found), as_json)
    return FAULTS if fail_gap is not None and found["gap_points"] > fail_gap else DONE


def audit(
    graph: str | None,
    explain: str | None,
    as_json: bool,
    train_op: list[str] | None,
    logits: str | None,
    is_training: str | bool | None,
) -> int:
    """Prints the faults of a graph, with status 1 if there are any; or a rule's page."""
    if explain is not None:
        from alexnet_tf1.batchnorm.rules import registry

        print(registry.explain(explain))
        return DONE
    if graph is None:
        raise UserError("audit needs a GRAPH, or --explain RULE; see alexnet-tf1 audit --help")
    import_tensorflow()
    from alexnet_tf1.batchnorm.audit import audit_file

    found = audit_file(graph, train_op, logits, is_training).to_json(graph)
    _show(found, output.faults(graph, found), as_json)
    return FAULTS if found["faults"] else DONE


def doctor(checkpoint: str, as_json: bool) -> int:
    """Prints the faults of a checkpoint; the status is 1 if there are any."""
    import_tensorflow()
    from alexnet_tf1.batchnorm.doctor import examine_checkpoint

    found = examine_checkpoint(checkpoint).to_json()
    _show(found, output.faults(found["checkpoint"], found), as_json)
    return FAULTS if found["faults"] else DONE


def recalibrate(run: str, **settings: Any) -> int:
    """Prints a run's accuracy before and after its statistics are re-estimated."""
    import_tensorflow()
    from alexnet_tf1.gap import recalibrate as repair

    print(output.recalibration(repair.recalibrate(run, **settings)))
    return DONE


def predict(run: str, images: list[str], as_json: bool, **settings: Any) -> int:
    """Prints the likeliest classes of image files."""
    import_tensorflow()
    from alexnet_tf1.serving import predict as prediction

    found = prediction.predict(run, images, **settings)
    _show(found, output.prediction(found), as_json)
    return DONE


def export(run: str, target: str, as_json: bool, **settings: Any) -> int:
    """Writes a SavedModel and prints where."""
    import_tensorflow()
    from alexnet_tf1.serving import export as exporting

    found = exporting.export(run, target, **settings)
    _show(found, output.export(found), as_json)
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
    _show(found, output.environment(found), as_json)
    return DONE


def compare(folders: list[str], out: str, as_json: bool) -> int:
    """Prints runs side by side; needs no TensorFlow."""
    from alexnet_tf1.reporting import compare as comparing

    found = comparing.compare(folders, out)
    _show(found, output.comparison(found), as_json)
    return DONE


def import_tensorflow() -> None:
    """Imports TensorFlow and keeps its start-up messages off the console.

    TF_CPP_MIN_LOG_LEVEL silences what is logged later, but not the lines that the C++ libraries
    write while they are loaded. Those go to a file, which is shown if the import fails. Warnings
    of TensorFlow's Python about its own deprecated calls are silenced too: a user of this program
    can do nothing about them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    console = os.dup(2)
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        try:
            import tensorflow

            tensorflow.get_logger().setLevel("ERROR")
        except BaseException:
            messages.seek(0)
            os.write(console, messages.read())
            raise
        finally:
            os.dup2(console, 2)
            os.close(console)


def _show(found: dict[str, Any], text: str, as_json: bool) -> None:
    """Prints a result as text for people or as one JSON document."""
    print(json.dumps(found, indent=2) if as_json else text)
