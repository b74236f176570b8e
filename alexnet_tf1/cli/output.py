"""The text that each command prints; `--json` prints the same as data."""

import itertools
import sys
from typing import Any

from alexnet_tf1.batchnorm.model.verdict import BATCH, INFERENCE, PRECISE, Readings
from alexnet_tf1.reporting import next_steps
from alexnet_tf1.reporting.compare_table import comparison_table
from alexnet_tf1.reporting.text import aligned, one_line


def evaluation(found: dict[str, Any]) -> str:
    """Formats accuracies and gap; `found` from evaluate.evaluate."""
    data = found["dataset"]
    lines = [
        f"{found['checkpoint']}, all {data['test_images']:,} test images of {data['name']} "
        f"in batches of {found['batch_size']}",
        f"inference:        {100 * found['test_accuracy_full']:.2f}%",
        f"batch statistics: {100 * found['batch_statistics_accuracy_full']:.2f}%",
        f"gap:              {found['gap_points']:+.2f} points",
    ]
    if "flip_accuracy_full" in found:
        flip = 100 * found["flip_accuracy_full"]
        lines.append(f"with mirror images, two passes each: {flip:.2f}%")
    lines += [one_line(f"written: {path}") for path in found.get("pictures", {}).values()]
    lines += next_steps.after_gap(found["run"], found["gap_points"])
    return "\n".join(lines)


def diagnosis(found: dict[str, Any]) -> str:
    """Formats the tables of answers and layers, and the verdict; `found` as in diagnose.json."""
    lines = [one_line(_measured_on(found)), "", *_answers(found), ""]
    if found["layers"]:
        lines += ["how far the moving averages are from the population's statistics"]
        lines += [*_distances(found["layers"]), ""]
    if found["gap_points"] is not None:
        lines.append(
            f"gap: {found['gap_points']:+.2f} points (batch statistics minus inference, batches of "
            f"{found['batch_size']})"
        )
    else:
        readings = Readings(found)
        moved = f"by their size and order that distance in inference is {readings.span()}"
        lines += [
            f"modes: {readings.modes()} (batches of {readings.size})",
            f"batches: {moved if readings.is_moved() else 'they hardly move what inference gives'}",
        ]
    lines += [_testing_twice(found), ""]
    lines += [one_line(f"note: {note}") for note in found.get("notes", ())]
    lines += [one_line(sentence) for sentence in found["verdict"]]
    return "\n".join(lines)


def _measured_on(found: dict[str, Any]) -> str:
    if "model" not in found:
        data = found["dataset"]["name"]
        return f"{found['checkpoint']}, first {found['images']:,} test images of {data}"
    switches = ", ".join(map(str, found["is_training"])) or "none"
    return (
        f"{found['checkpoint'] or found['model']}, {found['examples']:,} examples; output "
        f"{found['logits']}, training switch {switches}"
    )


def _answers(found: dict[str, Any]) -> list[str]:
    """Formats a row for each kind of statistics and order: accuracies, or without any distances."""
    cells = {(c["mode"], c["order"], c["batch_size"]): c for c in found["cells"]}
    labelled = all(cell["accuracy"] is not None for cell in cells.values())
    sizes = sorted({size for *_, size in cells})
    what = "examples" if "model" in found else "images"
    if labelled:
        lines = [f"accuracy (%) by {what} tested together"]
    else:
        lines = [
            "how far the outputs lie from those with precise statistics, by examples tested",
            "together; 1 is as far as outputs of different examples lie from their mean",
        ]
    lines.append(f"{'statistics':<18}{'order':<8}" + "".join(f"{size:>7,}" for size in sizes))
    for mode, order in itertools.product((BATCH, INFERENCE, PRECISE), ("stored", "sorted")):
        row = [cells[mode, order, size] for size in sizes]
        figures = [
            f"{100 * cell['accuracy']:.2f}" if labelled else _short(cell["distance"])
            for cell in row
        ]
        lines.append(f"{mode:<18}{order:<8}" + "".join(f"{figure:>7}" for figure in figures))
    return lines


def _short(distance: float) -> str:
    """Writes a distance of any size in six characters."""
    return f"{distance:.3f}" if distance < 99 else "> 99"


def _distances(layers: list[dict[str, Any]]) -> list[str]:
    """Formats a row for each layer, with what is left of the start where that is known."""
    lags = any("lag" in layer for layer in layers)
    width = max(24, *(len(layer["name"]) + 1 for layer in layers))
    lines = [
        f"{'':<{width}}{'mean off by':>13}{'variance off':>14}"
        + f"{'share of the initial value':>28}" * lags,
        f"{'layer':<{width}}{'(std. dev.)':>13}{'by (factor)':>14}"
        + f"{'still in the average':>28}" * lags,
    ]
    for layer in layers:
        mean, variance = layer["mean_distance"], layer["variance_distance"]
        kept = "keeps no averages" if mean is None else f"{mean:>13.3f}{variance:>14.3f}"
        left = f"{_percent(layer['lag']):>28}" if lags else ""
        lines.append(one_line(f"{layer['name']:<{width}}{kept:>27}{left}"))
    return lines


def _percent(share: float) -> str:
    return "< 0.1%" if 0 < share < 0.001 else f"{100 * share:.1f}%"


def _testing_twice(found: dict[str, Any]) -> str:
    """Says what testing did besides measuring: nothing, in a healthy model."""
    same, changed = found["repeatable"], len(found["changed_variables"])
    answers = "the same answers" if same else "DIFFERENT answers"
    count = f"{changed or 'no'} variable{'s' * (changed > 1)}"
    return f"testing twice gives {answers} {'but' if same and changed else 'and'} changes {count}"


def faults(name: str, found: dict[str, Any]) -> str:
    """Formats faults and notes, a line each; `found` in the JSON form of audit and doctor."""
    count = len(found["layers"])
    lines = [one_line(f"{name}: {count} batch normalisation{'s' * (count != 1)}")]
    lines += [one_line(f"{f['rule']} {f['layer']}: {f['message']}") for f in found["faults"]]
    lines += [one_line(f"note: {note}") for note in found["notes"]]
    wrong = len(found["faults"])
    checked = dict(found.get("checked", {}))  # the doctor has one family of rules
    left_out = checked.pop("left_out", [])
    of = [f"{family} rules on {len(names)} of {count} layers" for family, names in checked.items()]
    lines += [f"checked: {', '.join(of)}"] if of and count else []
    none = "no faults found"
    if left_out:
        none += one_line(f" in what could be checked: {'; '.join(left_out)}")
    lines.append(f"{wrong} fault{'s' * (wrong != 1)} found" if wrong else none)
    return "\n".join(lines)


def recalibration(found: dict[str, Any]) -> str:
    """Formats the accuracies before and after, and what comes next; `found` from recalibrate."""
    data = found["dataset"]
    lines = [
        f"population statistics from {found['images']:,} training images; inference accuracy on "
        f"all {data['test_images']:,} test images of {data['name']}:",
        *(
            f"  --fc-batch-norm {fc_batch_norm:<6} before {100 * accuracy['before']:.2f}%  "
            f"after {100 * accuracy['after']:.2f}%"
            for fc_batch_norm, accuracy in found["test_accuracy_full"].items()
        ),
        f"written to {found['checkpoint']}; weights unchanged",
        *next_steps.after_recalibration(found),
    ]
    return "\n".join(lines)


def model_recalibration(found: dict[str, Any]) -> str:
    """Formats what was written of any TF1 model; `found` from batchnorm.model.repair."""
    lines = [
        f"{found['model']}: statistics from {found['examples']:,} examples; how far its averages "
        "were from them",
        *_distances(found["layers"]),
        *(f"note: {note}" for note in found["notes"]),
    ]
    if found["checkpoint"]:
        lines.append(f"written to {found['checkpoint']}; all other variables unchanged")
    if found["saved_model"]:
        lines.append(
            f"written to {found['saved_model']}, a SavedModel that judges each example by itself; "
            "signature serving_default"
        )
    return "\n".join(one_line(line) for line in lines)


def prediction(found: dict[str, Any]) -> str:
    """Formats the likeliest classes of each image; `found` from serving.predict."""
    lines = [f"{found['checkpoint']}, trained on {found['dataset']}, by {_statistics(found)}"]
    for image in found["images"]:
        classes = ", ".join(f"{c['class']} {100 * c['probability']:.1f}%" for c in image["classes"])
        lines.append(one_line(f"{image['image']}: {classes}"))
    return "\n".join(lines + _start_left(found))


def export(found: dict[str, Any]) -> str:
    """Formats what was written and how to call it; `found` from serving.export."""

    def described(name: str, end: dict[str, Any]) -> str:
        shape = ", ".join("N" if size is None else str(size) for size in end["shape"])
        return f"{name} {end['dtype']} [{shape}]"

    signature, folder = found["signature"], found["directory"]
    inputs, outputs = (
        ", ".join(described(*end) for end in signature[ends].items())
        for ends in ("inputs", "outputs")
    )
    lines = [
        f"{found['checkpoint']} ({found['steps']:,} steps) written to {folder}, with "
        f"{_statistics(found)} in all four normalisations",
        f"{signature['name']}: {inputs} -> {outputs}",
        f"class names: {folder}/assets.extra/class_names.txt",
    ]
    if found["tflite"]:
        lines.append(f"{found['tflite']}: the same classes on 100 images")
    return "\n".join(lines + _start_left(found))


def environment(found: dict[str, Any]) -> str:
    """Formats versions, machine, devices, data; `found` from system.environment."""
    versions, cpu, built = found["versions"], found["cpu"], found["tensorflow_built_for"]
    cuda = f"CUDA {built['cuda']}, cuDNN {built['cudnn']}" if built["cuda"] else "no CUDA"
    memory = "unknown" if found["memory_gb"] is None else f"{found['memory_gb']:.1f} GB"
    vector = ", ".join(cpu["vector_instructions"]) or "unknown"
    data = found["data"]
    rows = [
        ("alexnet_tf1", versions["alexnet_tf1"]),
        ("Python", f"{versions['python']}, {sys.executable}"),
        ("TensorFlow", f"{versions['tensorflow']}, built for {cuda}"),
        ("Keras", versions["keras"]),
        ("NumPy", versions["numpy"]),
        ("system", found["system"]),
        ("CPU", f"{cpu['model']}, {cpu['cores']} cores; {vector}"),
        ("memory", memory),
        ("devices", ", ".join(found["devices"])),
        ("GPU", found["gpu"]["line"]),
        ("data", f"{data['folder']} ({data['named_by']}): {data['state']}"),
        *(("to do", line) for line in found["to_do"]),
    ]
    return "\n".join(one_line(line) for line in aligned(rows))


def comparison(found: dict[str, Any], width: int | None) -> str:
    """Formats the table of runs and the files written; `found` from reporting.compare.

    A table that is wider than a terminal of `width` columns becomes several.
    """
    written = one_line(f"written: {', '.join(found['files'])}")
    return f"{comparison_table(found, width)}\n\n{written}"


def _statistics(found: dict[str, Any]) -> str:
    return str(found["statistics"]).replace("recalibrated", "recalibrated statistics")


def _start_left(found: dict[str, Any]) -> list[str]:
    """Warns if much of their initial values is left in the moving averages."""
    warning = (
        f"warning: {100 * found['start_left']:.0f}% of their initial values is left in the "
        f"moving averages after {found['steps']:,} steps; train longer, or recalibrate"
    )
    return [warning] if found["start_left"] > 0.05 else []
