"""The table of options whose value is no value, by command."""

from __future__ import annotations

CHECKPOINT = "run/checkpoints/model.ckpt-2"
META = f"{CHECKPOINT}.meta"

NO_COUNT = ["", " ", "x", "0", "-1", "1.5", "1e3", "nan", "²", "9" * 5_000]
NO_NAME = ["", "  "]
TRAIN = {
    **dict.fromkeys(
        ("--steps", "--batch-size", "--log-every", "--test-every", "--test-batches"), NO_COUNT
    ),
    **dict.fromkeys(("--checkpoint-every", "--keep", "--devices", "--worker-timeout"), NO_COUNT),
    "--learning-rate": [
        "",
        "x",
        "0",
        "-0.0",
        "-1",
        "nan",
        "inf",
        "-inf",
        "1e-400",
        "1e39",
        "1e400",
    ],
    "--seed": ["", "x", "-1", "2147483648", "1.5", "nan"],
    "--dataset": ["", "mnist", "CIFAR10", "auto,synthetic"],
    "--update-ops": ["", "on", "Control"],
    "--fc-batch-norm": ["", "moving"],
    "--precision": ["", "float16", "bf16"],
    "--recipe": ["", "Quick", "quickest"],
    "--optimizer": ["", "sgd"],
    "--kernels": ["", "glorot"],
    "--schedule": ["", "cosine"],
    "--muon-rate": ["", "x", "0", "-1", "nan", "inf", "1e39"],
    "--warmup": ["", "x", "-0.1", "1", "nan"],
    "--label-smoothing": ["", "x", "-0.1", "1", "nan"],
    "--shift": ["", "x", "-1", "17", "1.5"],
    "--data-dir": NO_NAME,
    "--run-dir": NO_NAME,
    **{key: ["yes"] for key in ("--fast", "--no-fast", "--flip", "--no-flip")},
    "--local-batch-norm": ["yes"],
    "--no-local-batch-norm": ["yes"],
    "--resume": ["yes"],
    "--quiet": ["yes"],
    "--no-such-option": ["1"],
}
ON_RUN = {"--checkpoint": NO_NAME, "--data-dir": NO_NAME, "--no-such-option": ["1"]}
ON_RUN_OR_MODEL = {  # of a run folder, each is refused
    **ON_RUN,
    **{key: [*NO_NAME, "x=x.npy"] for key in ("--feed", "--set", "--logits", "--is-training")},
    **{key: [*NO_COUNT, "2"] for key in ("--batch-size", "--examples")},
    "--trust": ["yes"],
    "--json": ["yes"],
}
OPTIONS = {
    "train": TRAIN,
    "evaluate": {
        **ON_RUN,
        "--batch-size": NO_COUNT,
        "--fc-batch-norm": ["", "moving"],
        "--pictures": ["yes"],
        "--flip": ["yes"],
        "--json": ["yes"],
    },
    "compare": {"--out": [*NO_NAME, "run/config.json", "o" * 300], "--json": ["yes"]},
    "diagnose": {
        **ON_RUN_OR_MODEL,
        "--images": NO_COUNT,
        "--labels": [*NO_NAME, "y.npy"],
        "--out": [*NO_NAME, "run/config.json", "o" * 300],
        "--fail-gap": ["", "x", "nan", "inf", "-inf", "1,5"],
    },
    "recalibrate": {
        **ON_RUN_OR_MODEL,
        "--images": NO_COUNT,
        **{key: [*NO_NAME, "new"] for key in ("--out", "--saved-model")},
    },
    "audit": {
        **dict.fromkeys(("--train-op", "--logits", "--is-training", "--explain"), NO_NAME),
        **{key: [*NO_NAME, "serve"] for key in ("--tags", "--signature")},  # it is no SavedModel
        **{key: [*NO_NAME, "BN9", "BN101,", ":bn"] for key in ("--select", "--ignore")},
        "--inference": NO_NAME,
        "--training-only": ["yes"],
        "--json": ["yes"],
        "--images": ["2"],
    },
    "doctor": {"--json": ["yes"], "--checkpoint": ["2"]},
    "launch": {"--workers": NO_COUNT},
    "predict": {"--checkpoint": NO_NAME, "--top": [*NO_COUNT, "11"], "--json": ["yes"]},
    "export": {
        "--checkpoint": NO_NAME,
        "--tflite": ["yes"],
        "--json": ["yes"],
    },
    "env": {"--json": ["yes"], "--images": ["2"]},
}
OPERAND = {
    **{"train": (), "env": (), "audit": (META,), "doctor": (CHECKPOINT,)},
    **{"predict": ("run", "x.png"), "export": ("run", "out"), "launch": ()},
}
