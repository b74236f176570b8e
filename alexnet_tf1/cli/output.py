"""The text that each command prints; `--json` prints the same as data."""

import sys
from typing import Any

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
    """Formats the tables of accuracies and layers, and the verdict; `found` from gap.diagnose."""
    data = found["dataset"]
    sizes = sorted({cell["batch_size"] for cell in found["cells"]})
    lines = [
        f"{found['checkpoint']}, first {found['images']:,} test images of {data['name']}",
        "",
        "accuracy (%) by images tested together",
        f"{'statistics':<18}{'order':<8}" + "".join(f"{size:>7,}" for size in sizes),
    ]
    accuracies = {(c["mode"], c["order"], c["batch_size"]): c["accuracy"] for c in found["cells"]}
    for mode, order in dict.fromkeys((mode, order) for mode, order, _ in accuracies):
        row = "".join(f"{100 * accuracies[mode, order, size]:>7.2f}" for size in sizes)
        lines.append(f"{mode:<18}{order:<8}{row}")
    lines += [
        "",
        "how far the moving averages are from the population's statistics",
        f"{'':<24}{'mean off by':>13}{'variance off':>14}{'share of the initial value':>28}",
        f"{'layer':<24}{'(std. dev.)':>13}{'by (factor)':>14}{'still in the average':>28}",
        *(
            f"{layer['name']:<24}{layer['mean_distance']:>13.3f}{layer['variance_distance']:>14.3f}"
            f"{_percent(layer['lag']):>28}"
            for layer in found["layers"]
        ),
        "",
        f"gap: {found['gap_points']:+.2f} points (batch statistics minus inference, batches of "
        f"{found['batch_size']})",
        _testing_twice(found),
        "",
        *found["verdict"],
    ]
    return "\n".join(lines)


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
