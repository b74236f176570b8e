"""What a run folder holds, as a test compares it."""

import json

from alexnet_tf1.checkpoint.reader import Checkpoint


def metrics(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "images_per_s"} for record in records]


def variables(folder, step):
    saved = Checkpoint(str(folder / f"checkpoints/model.ckpt-{step}"))
    return {name: saved.read(name) for name in saved.variables}
