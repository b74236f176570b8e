"""The commands: each prints what came of one call and returns the exit status.

A command's docstring is what its --help begins with. TensorFlow is imported in the calls only, so
that --help and bad usage answer at once.
"""

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from alexnet_tf1.cli import output
from alexnet_tf1.distributed.cluster import from_environment
from alexnet_tf1.errors import UserError
from alexnet_tf1.recipes.presets import settings_from
from alexnet_tf1.reporting.text import one_line

DONE, FAULTS, BAD_INPUT = 0, 1, 2


def train(resume: bool, quiet: bool, **given: Any) -> int:
    """Trains the network."""
    from alexnet_tf1.runs.resume import settings

    cluster = from_environment()
    signal: int | None
    if cluster and not cluster.is_chief:  # only the chief has a run folder
        wanted = settings_from(given)  # checks what was typed
        import_tensorflow()
        from alexnet_tf1.distributed.worker import follow

        signal = follow(cluster, given if resume else dataclasses.asdict(wanted), quiet=quiet)
    else:
        config = settings(given) if resume else settings_from(given)
        import_tensorflow()
        from alexnet_tf1.supervisor.run import run_training

        found = run_training(config, resume=resume, quiet=quiet, cluster=cluster)
        signal = found["stopped_by"]
    return DONE if signal is None else 128 + signal


def launch(workers: int, training: list[str]) -> int:
    """Starts workers with a TF_CONFIG each, shows what they print, and stops all when one fails.

    For training on several machines, set TF_CONFIG there (docs/scale.md).
    """
    from alexnet_tf1.distributed import launch as launching

    return launching.launch(workers, training)


def evaluate(run: str, as_json: bool, **settings: Any) -> int:
    """Tests every image exactly once, in inference and in batch-statistics mode."""
    import_tensorflow()
    from alexnet_tf1.gap.both_modes import evaluate_run

    return _show(evaluate_run(run, **settings), output.evaluation, as_json)


def diagnose(run: str, as_json: bool, fail_gap: float | None, **settings: Any) -> int:
    """Measures accuracy by statistics mode, test batch size and order, and says what is wrong.

    All on the same test images. Writes diagnose.json and diagnose.png into RUN, if it can.
    """
    import_tensorflow()
    from alexnet_tf1.gap import diagnose as gap

    found = gap.diagnose(run, **settings)
    _show(found, output.diagnosis, as_json)
    return FAULTS if fail_gap is not None and found["gap_points"] > fail_gap else DONE


def audit(
    models: list[str],
    explain: str | None,
    as_json: bool,
    train_op: list[str] | None,
    tags: str | None,
    **given: Any,
) -> int:
    """Checks graphs without running them.

    Does training update their moving averages, and does inference read them? Exit status 1 if not.
    """
    if explain is not None:
        from alexnet_tf1.batchnorm.rules import registry

        print(registry.explain(explain))
        return DONE
    if not models:
        raise UserError("audit needs a MODEL, or --explain RULE; see alexnet-tf1 audit --help")
    import_tensorflow()
    from alexnet_tf1.batchnorm.audit import audit_file

    given["tags"] = tags.split(",") if tags is not None else None
    reports, status = [], DONE
    for model in models:
        try:
            found = audit_file(model, train_op, **given).to_json(model)
        except UserError as error:
            if len(models) == 1:
                raise
            print(one_line(f"error: {error}"), file=sys.stderr)
            status = BAD_INPUT
            continue
        reports.append(found)
        if found["faults"]:
            status = max(status, FAULTS)
        if not as_json:
            print(output.faults(model, found))
    if as_json:
        print(json.dumps(reports if len(models) > 1 else reports[0], indent=2))
    return status


def doctor(checkpoint: str, as_json: bool) -> int:
    """Looks for moving statistics that were never updated or never saved; needs no graph.

    Exit status 1 if there are any.
    """
    import_tensorflow()
    from alexnet_tf1.batchnorm.doctor import examine_checkpoint

    found = examine_checkpoint(checkpoint).to_json()
    return _show(found, lambda found: output.faults(found["checkpoint"], found), as_json)


def recalibrate(run: str, **settings: Any) -> int:
    """Estimates the normalisations' statistics from training images into a new checkpoint.

    From then on it is the run's newest. The weights and the other checkpoints stay as they are.
    """
    import_tensorflow()
    from alexnet_tf1.gap import recalibrate as repair

    return _show(repair.recalibrate(run, **settings), output.recalibration)


def predict(run: str, images: list[str], as_json: bool, **settings: Any) -> int:
    """Classifies PNG, JPEG, BMP or GIF files of any size, each by itself.

    Each is centre-cropped to a square and resized to 32 x 32. Refuses a model that normalises with
    the test batch. Of several files those that cannot be read are named, and the status is 2.
    """
    import_tensorflow()
    from alexnet_tf1.serving import predict as prediction

    found = prediction.predict(run, images, **settings)
    refused = found.get("refused", [])
    for line in refused:
        print(one_line(f"error: {line}"), file=sys.stderr)
    _show(found, output.prediction, as_json)
    return BAD_INPUT if refused else DONE


def export(run: str, target: str, as_json: bool, **settings: Any) -> int:
    """Writes the network for inference: raw images in, probabilities and classes out.

    Each image is judged by itself. Refuses a model that would use batch statistics.
    """
    import_tensorflow()
    from alexnet_tf1.serving import export as exporting

    return _show(exporting.export(run, target, **settings), output.export, as_json)


def env(as_json: bool) -> int:
    """Prints what a run finds on this machine.

    If there is an NVIDIA GPU that TensorFlow does not use, one line says why and what to install.
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

    return _show(environment.environment(), output.environment, as_json)


def compare(folders: list[str], out: str, as_json: bool) -> int:
    """Prints a Markdown table of runs, finished or not.

    It has the settings that differ, accuracies, time, memory. Writes it to compare.md and the runs'
    curves to compare.png.
    """
    from alexnet_tf1.reporting import compare as comparing

    return _show(comparing.compare(folders, out), output.comparison, as_json)


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


def _show(
    found: dict[str, Any], form: Callable[[dict[str, Any]], str], as_json: bool = False
) -> int:
    """Prints a result as text for people or as one JSON document; the status tells of faults."""
    print(json.dumps(found, indent=2) if as_json else form(found))
    return FAULTS if found.get("faults") else DONE
