"""What the recipes reach and what it takes: whole processes, start-up and evaluation included.

    python benchmarks/recipes.py compare --data-dir DIR --out DIR [--seeds 0 1 2] [--recipes ...]
    python benchmarks/recipes.py ablate quick --data-dir DIR --out DIR [--seeds 0]

`compare` trains original, quick and best in turn for each seed; `ablate` trains a recipe whole,
then with one setting after the other put back to the original's. Runs that are in --out already
are not done again. Both print a markdown table of accuracies on all test images with moving
averages (for the original: as it tests); `compare` also tests each run with mirror images, by
`evaluate --flip`, whose time is of all its four passes, and writes recipes.png.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from alexnet_tf1.config import TrainConfig, option
from alexnet_tf1.recipes.presets import RECIPES

ORIGINAL = 73.26  # %, docs/reproduction.md
LABELLING = ("test_batches", "log_every", "test_every", "checkpoint_every", "fast", "steps")


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    compare_parser = commands.add_parser("compare")
    ablate_parser = commands.add_parser("ablate")
    ablate_parser.add_argument("recipe", choices=[name for name in RECIPES if RECIPES[name]])
    for command in (compare_parser, ablate_parser):
        command.add_argument("--data-dir", required=True)
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--seeds", type=int, nargs="+")
    compare_parser.add_argument(
        "--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES)
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.command == "compare":
        seeds = options.seeds or [0, 1, 2]
        rows = compare(options.recipes, options.data_dir, options.out, seeds)
        picture(rows, options.out / "recipes.png")
    else:
        rows = ablate(options.recipe, options.data_dir, options.out, options.seeds or [0])
    print(table(rows))


def run(name: str, seed: int, typed: list[str], data_dir: str, out: Path) -> dict[str, Any]:
    """Trains in a process of its own, unless that was done, and times it whole."""
    folder = out / f"{name}-{seed}"
    timed = out / f"{name}-{seed}.json"
    if not timed.is_file():
        folder.with_suffix(".flip.json").unlink(missing_ok=True)
        started = time.perf_counter()
        command = [sys.executable, "-m", "alexnet_tf1", "train", "--dataset", "cifar10"]
        command += ["--data-dir", data_dir, "--seed", str(seed), "--run-dir", str(folder)]
        with (out / f"{name}-{seed}.log").open("w") as log:
            subprocess.run([*command, *typed], check=True, stdout=log)
        process_s = time.perf_counter() - started
        timed.write_text(json.dumps({"process_s": process_s}))
    result = json.loads((folder / "result.json").read_text())
    return {**result, **json.loads(timed.read_text())}


def compare(
    recipes: list[str], data_dir: str, out: Path, seeds: list[int]
) -> dict[str, list[dict[str, Any]]]:
    """The recipes in turn, so that a slow hour of the machine is everybody's."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in recipes}
    for seed in seeds:
        for name, results in rows.items():
            results.append(run(name, seed, ["--recipe", name], data_dir, out))
    for name, results in rows.items():
        for seed, result in zip(seeds, results, strict=True):
            result.update(flipped(out / f"{name}-{seed}"))
    return rows


def flipped(folder: Path) -> dict[str, float]:
    """Tests a run with mirror images in a process of its own, unless that was done; times it."""
    timed = folder.with_suffix(".flip.json")
    if not timed.is_file():
        started = time.perf_counter()
        command = [sys.executable, "-m", "alexnet_tf1", "evaluate", str(folder), "--flip", "--json"]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = {"flip_accuracy_full": json.loads(said)["flip_accuracy_full"]}
        timed.write_text(json.dumps({**found, "flip_s": time.perf_counter() - started}))
    known: dict[str, float] = json.loads(timed.read_text())
    return known


def ablate(
    recipe: str, data_dir: str, out: Path, seeds: list[int]
) -> dict[str, list[dict[str, Any]]]:
    """The recipe, and the recipe without each of its settings."""
    whole = ["--recipe", recipe]
    variants = {recipe: whole}
    for name in RECIPES[recipe]:
        if name not in LABELLING:
            variants[f"{recipe} without {name}"] = [*whole, *typed(name, recipe)]
    return {
        name: [run(name.replace(" ", "-"), seed, words, data_dir, out) for seed in seeds]
        for name, words in variants.items()
    }


def typed(name: str, recipe: str) -> list[str]:
    """The options that put one setting back to the original's; as many images are seen."""
    default = getattr(TrainConfig(), name)
    if isinstance(default, bool):
        return [option(name) if default else option(name).replace("--", "--no-")]
    words = [option(name), str(default)]
    if name == "batch_size":
        images = RECIPES[recipe]["steps"] * RECIPES[recipe]["batch_size"]
        words += ["--steps", str(images // default)]
    return words


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """A row a variant: accuracies by seed, mean and standard deviation, seconds."""
    heads = ["", "steps", "by seed (%)", "accuracy (%)", "whole process (s)"]
    if all("flip_s" in results[0] for results in rows.values()):
        heads += ["with mirror images (%)", "`evaluate --flip` (s)"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, results in rows.items():
        found = [100 * result["test_accuracy_full"] for result in results]
        lines.append(
            f"| {name} | {results[0]['steps']:,} | {', '.join(f'{a:.2f}' for a in found)} "
            f"| {with_spread(found)} | {with_range([r['process_s'] for r in results])} |"
        )
        if "flip_s" in results[0]:
            twice = [100 * result["flip_accuracy_full"] for result in results]
            lines[-1] += f" {with_spread(twice)} | {with_range([r['flip_s'] for r in results])} |"
    return "\n".join(lines)


def with_spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def with_range(seconds: list[float]) -> str:
    """Mean, smallest and largest."""
    return f"{statistics.mean(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f})"


def picture(rows: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Accuracy against wall time, a point a run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    looks = {"original": ("o", "#000000"), "quick": ("s", "#0072B2"), "best": ("^", "#D55E00")}
    for name, results in rows.items():
        marker, colour = looks[name]
        seconds = [result["process_s"] for result in results]
        accuracies = [100 * result["test_accuracy_full"] for result in results]
        axes.plot(seconds, accuracies, marker, color=colour, fillstyle="none", markersize=8)
        axes.annotate(
            name,
            (statistics.mean(seconds), statistics.mean(accuracies)),
            xytext=(0, -20 if name == "original" else 14),
            textcoords="offset points",
            ha="center",
            color=colour,
        )
    axes.axhline(ORIGINAL, color="#777777", linewidth=0.8, linestyle="--")
    axes.annotate(
        f"the original program, mean of three seeds: {ORIGINAL}%",
        (0.3, ORIGINAL),
        xytext=(0, -12),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        color="#555555",
        fontsize=8,
    )
    longest = max(result["process_s"] for results in rows.values() for result in results)
    axes.set(
        xlabel="wall time of the whole process (s)",
        ylabel="accuracy on all 10,000 test images (%)",
        title="CIFAR-10 (JPEG q75): one point a seed",
        xlim=(0, 1.1 * longest),
        ylim=(68, 90),
    )
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
