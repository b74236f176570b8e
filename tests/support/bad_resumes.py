"""The table of bad input to `train --resume`; bad_inputs.py has the others."""

from __future__ import annotations

from support.bad_inputs import CONFIG, CONFIGS, INDEX, METRICS, NO_RECORDS, SHARD
from support.mistakes import Case, edit, flip, pipe, write

RESUME = ("train", "--resume", "--run-dir=run")


def cases() -> list[Case]:
    """Every case."""
    found = [
        Case(RESUME, ("config.json", reason), write(CONFIG, content))
        for content, reason in CONFIGS.items()
    ]
    more = (*RESUME, "--steps=4")
    found += [
        Case(("train", "--resume"), ("--resume", "--run-dir")),
        Case(("train", "--resume", "--run-dir=nowhere"), ("nowhere",)),
        Case((*RESUME, "--steps=1"), ("--steps 1",)),
        Case((*RESUME, "--batch-size=5", "--seed=3"), ("--batch-size 5", "--seed 3")),
        Case(more, ("other images", "--data-dir"), write("run/data.json", "{}")),
        Case(more, ("model.ckpt-2",), edit(SHARD, flip)),
        Case(more, ("model.ckpt-2",), edit(INDEX, lambda data: data[:-9])),
        Case(more, ("metrics.jsonl", "not what a run has there"), pipe(METRICS)),
        *[
            Case(more, ("metrics.jsonl", "line 1", reason), write(METRICS, f"{line}\n{{}}\n"))
            for line, reason in NO_RECORDS.items()
        ],
    ]
    return found
