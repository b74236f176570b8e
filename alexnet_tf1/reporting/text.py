"""What the commands print for people; `--json` prints the same as data."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

MOST_SHOWN = 2_000  # characters of a line


def one_line(text: str) -> str:
    """Text that a file may have chosen, made fit for a line on a terminal.

    Args:
      text: any text.

    Returns:
      The text with control characters spelt out and, if it is very long, without its middle.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(text) > MOST_SHOWN:
        text = f"{text[: MOST_SHOWN - 400]} ... {text[-400:]}"
    return text


def aligned(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Lines of a label and a text, `label: text`, the texts below each other."""
    rows = list(rows)
    width = max(len(label) for label, _ in rows) + 2
    return [f"{label + ':':<{width}}{text}" for label, text in rows]


def evaluation(found: dict[str, Any]) -> str:
    """Three figures and what they are of; `found` from evaluate.evaluate."""
    data = found["dataset"]
    flip = found.get("flip_accuracy_full")
    return (
        f"{found['checkpoint']}, all {data['test_images']:,} test images of {data['name']} "
        f"in batches of {found['batch_size']}\n"
        f"inference:        {100 * found['test_accuracy_full']:.2f}%\n"
        f"batch statistics: {100 * found['batch_statistics_accuracy_full']:.2f}%\n"
        f"gap:              {found['gap_points']:+.2f} points"
        + ("" if flip is None else f"\nwith mirror images, two passes each: {100 * flip:.2f}%")
        + "".join(
            "\n" + one_line(f"written: {path}") for path in found.get("pictures", {}).values()
        )
    )


def diagnosis(found: dict[str, Any]) -> str:
    """Tables of accuracies and layers, and the verdict; `found` from gap.diagnose."""
    data = found["dataset"]
    sizes = sorted({cell["batch_size"] for cell in found["cells"]})
    lines = [
        f"{found['checkpoint']}, first {found['images']:,} test images of {data['name']}",
        "",
        "accuracy (%) by images tested together",
        f"{'statistics':<18}{'order':<8}" + "".join(f"{size:>8,}" for size in sizes),
    ]
    accuracies = {(c["mode"], c["order"], c["batch_size"]): c["accuracy"] for c in found["cells"]}
    for mode, order in dict.fromkeys((cell["mode"], cell["order"]) for cell in found["cells"]):
        row = "".join(f"{100 * accuracies[mode, order, size]:>8.2f}" for size in sizes)
        lines.append(f"{mode:<18}{order:<8}{row}")
    lines += [
        "",
        "moving averages against the population: mean in standard deviations, variance as a "
        "ratio; start left in them",
    ]
    for layer in found["layers"]:
        lines.append(
            f"{layer['name']:<24}{layer['mean_distance']:>10.3f}{layer['variance_distance']:>10.3f}"
            f"{100 * layer['lag']:>10.2g}%"
        )
    lines += [
        "",
        f"gap: {found['gap_points']:+.2f} points (batch statistics minus inference, batches of "
        f"{found['batch_size']})",
        f"evaluating twice {'agrees' if found['repeatable'] else 'DISAGREES'} and changes "
        f"{len(found['changed_variables'])} variables",
        "",
        *found["verdict"],
    ]
    return "\n".join(lines)


def faults(name: str, found: dict[str, Any]) -> str:
    """One line a fault, then the notes; `found` in the JSON form of audit and doctor."""
    count = len(found["layers"])
    lines = [one_line(f"{name}: {count} batch normalisation{'s' * (count != 1)}")]
    lines += [one_line(f"{f['rule']} {f['layer']}: {f['message']}") for f in found["faults"]]
    lines += [one_line(f"note: {note}") for note in found["notes"]]
    wrong = len(found["faults"])
    lines.append(f"{wrong} fault{'s' * (wrong != 1)} found" if wrong else "no faults found")
    return "\n".join(lines)


def recalibration(found: dict[str, Any]) -> str:
    """Accuracy before and after, and where it went; `found` from gap.recalibrate."""
    data = found["dataset"]
    lines = [
        f"population statistics from {found['images']:,} training images; inference accuracy on "
        f"all {data['test_images']:,} test images of {data['name']}:"
    ]
    for fc_batch_norm, accuracy in found["test_accuracy_full"].items():
        lines.append(
            f"  --fc-batch-norm {fc_batch_norm:<6} before {100 * accuracy['before']:.2f}%  "
            f"after {100 * accuracy['after']:.2f}%"
        )
    lines.append(f"written to {found['checkpoint']}; weights unchanged")
    return "\n".join(lines)


def prediction(found: dict[str, Any]) -> str:
    """The likeliest classes of each picture; `found` from predict.predict."""
    lines = [f"{found['checkpoint']}, trained on {found['dataset']}, by {_statistics(found)}"]
    for image in found["images"]:
        classes = ", ".join(f"{c['class']} {100 * c['probability']:.1f}%" for c in image["classes"])
        lines.append(one_line(f"{image['image']}: {classes}"))
    return "\n".join(lines + _start_left(found))


def export(found: dict[str, Any]) -> str:
    """What was written where, and how to call it; `found` from export.export."""
    signature = found["signature"]

    def described(ends: dict[str, Any]) -> str:
        shapes = {
            name: ", ".join("N" if size is None else str(size) for size in end["shape"])
            for name, end in ends.items()
        }
        return ", ".join(
            f"{name} {ends[name]['dtype']} [{shape}]" for name, shape in shapes.items()
        )

    inputs, outputs = described(signature["inputs"]), described(signature["outputs"])
    lines = [
        f"{found['checkpoint']} ({found['steps']:,} steps) written to {found['directory']}, with "
        f"{_statistics(found)} in all four normalisations",
        f"{signature['name']}: {inputs} -> {outputs}",
        f"class names: {found['directory']}/assets.extra/class_names.txt",
    ]
    if found["tflite"]:
        lines.append(f"{found['tflite']}: the same classes on 100 images")
    return "\n".join(lines + _start_left(found))


def comparison(found: dict[str, Any]) -> str:
    """Markdown: a heading, a warning if there is cause, a table; `found` from compare.compare."""
    rows = found["runs"]
    count = f"{len(rows)} run{'s' * (len(rows) != 1)}"
    if found["comparable"]:
        lines = [f"# {count} on {rows[0]['dataset']}", ""]
    else:
        lines = [f"# {count} on different data sets", "", NOT_COMPARABLE, ""]
    columns = _columns(found)
    cells = [[text(row) for _, text in columns] for row in rows]
    return "\n".join(lines + _table([head for head, _ in columns], cells))


NOT_COMPARABLE = "These runs saw different data sets: their figures are not comparable."
UNKNOWN = "–"  # noqa: RUF001


def _columns(found: dict[str, Any]) -> list[tuple[str, Callable[[dict[str, Any]], str]]]:
    """Of the table of runs: each column's heading, and what makes its cell of a run."""
    return [
        ("run", lambda row: plain_markdown(row["label"])),
        *(
            (f"--{name.replace('_', '-')}", lambda row, name=name: str(row["settings"][name]))
            for name in found["differing"]
        ),
        ("steps", _steps),
        ("final loss (nats)", lambda row: _figure(found, row, "final_loss", "{:.4f}")),
        (
            "test accuracy, inference (%)",
            lambda row: _figure(found, row, "test_accuracy_full", "{:.2f}", 100),
        ),
        (
            "batch statistics (%)",
            lambda row: _figure(found, row, "batch_statistics_accuracy_full", "{:.2f}", 100),
        ),
        ("gap (points)", lambda row: _figure(found, row, "gap_points", "{:+.2f}")),
        ("wall time (s)", _wall_time),
        ("steps/s", lambda row: _cell(row["steps_per_s"], "{:.1f}")),
        ("peak memory (MB)", lambda row: _cell(row["peak_rss_mb"], "{:,.0f}")),
        ("device", lambda row: plain_markdown(row["device"]) if row["device"] else UNKNOWN),
    ]


def _figure(
    found: dict[str, Any], row: dict[str, Any], key: str, form: str, scale: float = 1.0
) -> str:
    """A figure, under the name of its data set where there are several."""
    text = _cell(row[key], form, scale)
    return text if found["comparable"] or text == UNKNOWN else f"{text} {row['dataset']}"


def _cell(value: float | None, form: str, scale: float = 1.0) -> str:
    return UNKNOWN if value is None else form.format(scale * value)


def _steps(row: dict[str, Any]) -> str:
    steps, wanted = row["steps"], row["of_steps"]
    if row["finished"]:
        return f"{steps:,}"
    return f"{steps:,} of {wanted:,}" if steps < wanted else f"{steps:,}, untested"


def _wall_time(row: dict[str, Any]) -> str:
    text = _cell(row["wall_s"], "{:,.0f}")
    since = row["resumed_after_step"]
    return f"{text} since step {since:,}" if since else text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table whose columns are in line in plain text as well."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, rule, *rows)
    ]


def plain_markdown(text: str) -> str:
    """Text that a file may have chosen, as Markdown that shows it and means nothing else.

    Args:
      text: any text.

    Returns:
      One line without what ends a table's cell, emphasises, links or opens HTML.
    """
    text = one_line(text)
    return re.sub(
        r"(?<![^\W_])_|_(?![^\W_])|[^\w .,=+/():@%-]", lambda found: f"&#{ord(found[0])};", text
    )


def _statistics(found: dict[str, Any]) -> str:
    return {"recalibrated": "recalibrated statistics"}.get(found["statistics"], "moving averages")


def _start_left(found: dict[str, Any]) -> list[str]:
    """A line about moving averages that still hold much of where they began, if they do."""
    if found["start_left"] <= 0.05:
        return []
    return [
        f"warning: {100 * found['start_left']:.0f}% of their start is left in the moving averages "
        f"after {found['steps']:,} steps; train longer, or recalibrate"
    ]


def environment(found: dict[str, Any]) -> str:
    """Lays out the lines of `env`; `found` from system.environment.environment()."""
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
