"""The commands: each prints what came of one call and returns the exit status.

A command's docstring is what its --help begins with. TensorFlow is imported in the calls only, so
that --help and bad usage answer at once.
"""

import contextlib
import dataclasses
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from alexnet_tf1.cli import models, output
from alexnet_tf1.distributed.cluster import from_environment
from alexnet_tf1.errors import UserError
from alexnet_tf1.recipes.presets import settings_from
from alexnet_tf1.reporting.text import one_line
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.system.terminal import columns, show, write

DONE, FAULTS, BAD_INPUT = 0, 1, 2
BROKEN = 70  # an error of the program itself: EX_SOFTWARE of sysexits.h


def train(resume: bool, quiet: bool, **given: Any) -> int:
    """Trains the network."""
    from alexnet_tf1.distributed.launch import end_with_launcher
    from alexnet_tf1.runs.resume import settings

    end_with_launcher()
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


def evaluate(run: str | None, as_json: bool, **settings: Any) -> int:
    """Tests every image exactly once, in inference and in batch-statistics mode."""
    run = _or_newest(run)
    import_tensorflow()
    from alexnet_tf1.gap.both_modes import evaluate_run

    return _show(evaluate_run(run, **settings), output.evaluation, as_json)


def diagnose(
    run: str | None, as_json: bool, fail_gap: float | None, out: str | None, **given: Any
) -> int:
    """Measures how a model answers by statistics mode, test batch size and order.

    All on the same examples: of a run, its test images; of any other TF1 model, what --feed names.
    Says what is wrong and what mends it. Without labels it measures how far outputs lie apart,
    relative to their spread. Writes diagnose.json and diagnose.png.
    """
    model = models.find_model(run, given)
    if model is not None and fail_gap is not None and given["labels"] is None:
        raise UserError("--fail-gap is a difference of accuracies; add --labels FILE")
    run = _or_newest(run)
    import_tensorflow()
    if model is None:
        from alexnet_tf1.gap import diagnose as gap

        found = gap.diagnose(run, out=out, **models.of_run(given))
    else:
        found = models.diagnose(model, out or ".", given)
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

        show(registry.explain(explain))
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
            show(one_line(f"error: {error}"), sys.stderr)
            status = BAD_INPUT
            continue
        reports.append(found)
        if found["faults"]:
            status = max(status, FAULTS)
        if not as_json:
            show(output.faults(model, found))
    if as_json:
        write(json.dumps(reports if len(models) > 1 else reports[0], indent=2))
    return status


def doctor(checkpoint: str, as_json: bool) -> int:
    """Looks for moving statistics that were never updated or never saved; needs no graph.

    Exit status 1 if there are any.
    """
    import_tensorflow()
    from alexnet_tf1.batchnorm.doctor import examine_checkpoint

    found = examine_checkpoint(checkpoint).to_json()
    return _show(found, lambda found: output.faults(found["checkpoint"], found), as_json)


def recalibrate(run: str | None, as_json: bool, **given: Any) -> int:
    """Estimates the normalisations' statistics from training examples into a new checkpoint.

    Of a run, from its training images; the new checkpoint is then the run's newest. Of any other
    TF1 model, from what --feed names. No weight changes, and the other checkpoints stay.
    """
    model = models.find_model(run, given)
    if model is not None and not (given["out"] or given["saved_model"]):
        raise UserError(
            "recalibrate needs to know where to write: --out PREFIX for a checkpoint, or "
            "--saved-model DIR"
        )
    run = _or_newest(run)
    import_tensorflow()
    if model is not None:
        return _show(models.recalibrate(model, given), output.model_recalibration, as_json)
    from alexnet_tf1.gap import recalibrate as repair

    found = repair.recalibrate(run, **models.of_run(given))
    return _show(found, output.recalibration, as_json)


def predict(run: str | None, images: list[str], as_json: bool, **settings: Any) -> int:
    """Classifies PNG, JPEG, BMP or GIF files of any size, each by itself.

    Each is centre-cropped to a square and resized to 32 x 32. Refuses a model that normalises with
    the test batch. Of several files those that cannot be read are named, and the status is 2. The
    first operand is the RUN unless it is a file.
    """
    operands = images if run is None else [run, *images]
    first, *others = operands
    is_run = os.path.isdir(first) or (len(others) > 0 and not os.path.exists(first))
    run, images = (first, others) if is_run else (_or_newest(None), operands)
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
    import_tensorflow()
    from alexnet_tf1.system import environment

    return _show(environment.environment(), output.environment, as_json)


def compare(folders: list[str], out: str, as_json: bool) -> int:
    """Prints a Markdown table of runs, finished or not.

    It has the settings that differ, accuracies, time, memory. Writes it to compare.md and the runs'
    curves to compare.png.
    """
    from alexnet_tf1.reporting import compare as comparing

    width = columns(sys.stdout)
    return _show(
        comparing.compare(folders, out), lambda found: output.comparison(found, width), as_json
    )


def _or_newest(run: str | None) -> str:
    """Takes the newest run where none was named, and says which."""
    if run is None:
        run = runs.newest()
        show(one_line(f"run: {run}, the newest under {runs.RUNS}/"), sys.stderr)
    return run


def import_tensorflow() -> None:
    """Imports TensorFlow and keeps its start-up messages off the console.

    TF_CPP_MIN_LOG_LEVEL silences what is logged later, but not the lines that the C++ libraries
    write while they are loaded. Warnings of TensorFlow's Python about its own deprecated calls are
    silenced too: a user of this program can do nothing about them. Its errors are raised.

    Raises:
      UserError: if it cannot be imported.
      MemoryError: if its libraries do not fit into the memory that the process may have.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    console = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        with _collector_at_rest():
            import tensorflow

        tensorflow.get_logger().setLevel("CRITICAL")
    except ImportError as error:
        reason = str(error).strip().partition("\n")[0]
        if "failed to map" in reason:
            raise MemoryError from error
        raise UserError(
            f"TensorFlow cannot be imported ({reason}); "
            'pip install --force-reinstall "tensorflow>=2.16,<3"'
        ) from error
    finally:
        os.dup2(console, 2)
        os.close(console)


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Leaves out of garbage collection what is made inside, which stays until the process ends.

    While TensorFlow is imported, the collector would walk its 300,000 objects again and again,
    and all of them once more when the process ends: a quarter of what `audit` took.
    """
    if "tensorflow" in sys.modules:  # what there is by now is the caller's
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _show(
    found: dict[str, Any], form: Callable[[dict[str, Any]], str], as_json: bool = False
) -> int:
    """Prints a result as text for people or as one JSON document; the status tells of faults."""
    if as_json:
        write(json.dumps(found, indent=2))
    else:
        show(form(found))
    return FAULTS if found.get("faults") else DONE
