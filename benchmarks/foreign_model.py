"""Somebody else's ResNet, its updates forgotten, measured and repaired by the commands.

    pip install tf_slim tf_keras
    python benchmarks/foreign_model.py train FOLDER --data-dir DIR
    python benchmarks/foreign_model.py measure FOLDER

`train` trains tf_slim's resnet_v1 (tf_slim.nets, nothing of alexnet_tf1 in its graph) of 20
layers, with 22 batch normalisations, on CIFAR-10 and forgets UPDATE_OPS. It leaves in FOLDER
what such a program leaves, a checkpoint with its .meta, and the images as arrays. `measure` runs
`diagnose`, `recalibrate` and `diagnose` again on them, each as a process, and prints what they
say, their time and their peak memory. docs/gap.md quotes it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parents[1]
BATCH_SIZE, TEST_IMAGES, TRAINING_IMAGES = 64, 2_000, 1_000
SIZES = (1, 2, 5, 20, 100, 1_000)


def scaled(images: Any) -> Any:
    """Images as resnet_v1 takes them, float32 [N, 32, 32, 3] from -1 to 1; uint8 [N, 3072]."""
    pixels = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return (pixels / np.float32(127.5) - 1).astype(np.float32)


def build() -> dict[str, Any]:
    """The network and its training op, as a program that uses tf_slim has them."""
    import tensorflow.compat.v1 as tf
    from tf_keras.src import legacy_tf_layers
    from tf_keras.src.legacy_tf_layers import normalization

    sys.modules["tf_keras.legacy_tf_layers"] = legacy_tf_layers  # see docs/migration.md
    sys.modules["tf_keras.legacy_tf_layers.normalization"] = normalization
    import tf_slim as slim
    from tf_slim.nets import resnet_utils, resnet_v1

    images = tf.placeholder(tf.float32, [None, 32, 32, 3], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    is_training = tf.placeholder(tf.bool, [], name="is_training")
    with (
        slim.arg_scope(resnet_utils.resnet_arg_scope(batch_norm_decay=0.9)),
        slim.arg_scope([slim.batch_norm], is_training=is_training),
    ):
        net, _ = resnet_v1.resnet_v1(
            slim.max_pool2d(slim.conv2d(images, 16, 3), 2),
            [
                resnet_v1.resnet_v1_block("block1", base_depth=16, num_units=2, stride=2),
                resnet_v1.resnet_v1_block("block2", base_depth=32, num_units=2, stride=2),
                resnet_v1.resnet_v1_block("block3", base_depth=64, num_units=2, stride=1),
            ],
            num_classes=10,
            is_training=is_training,
            include_root_block=False,
        )
    logits = tf.squeeze(net, [1, 2], name="logits")
    tf.losses.sparse_softmax_cross_entropy(labels, logits)
    step = tf.train.get_or_create_global_step()
    loss = tf.losses.get_total_loss()
    # The fault: tf_slim's own create_train_op would run UPDATE_OPS, minimize does not.
    train_op = tf.train.AdamOptimizer(2e-3).minimize(loss, step)
    return {
        "images": images,
        "labels": labels,
        "is_training": is_training,
        "loss": loss,
        "train_op": train_op,
    }


def train(folder: Path, data_dir: str | None, steps: int, seed: int) -> None:
    """Trains, saves, and writes the arrays."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # tf_slim's layers are those of tf_keras
    import tensorflow.compat.v1 as tf
    from loops import load

    from alexnet_tf1.data.batches import Batches

    data = load(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(seed)
        net = build()
        session.run(tf.global_variables_initializer())
        batches = Batches(data.train, seed)
        start = time.perf_counter()
        for step in range(1, steps + 1):
            pixels, labels = batches.next_pixels(BATCH_SIZE)
            feed = {net["images"]: scaled(pixels), net["labels"]: labels, net["is_training"]: True}
            loss = session.run([net["loss"], net["train_op"]], feed)[0]
            if step % 500 == 0:
                print(
                    f"step {step}: loss {loss:.3f}, {time.perf_counter() - start:.0f} s", flush=True
                )
        tf.train.Saver().save(session, str(folder / "model.ckpt"), steps)
    np.save(folder / "test_images.npy", scaled(data.test.images[:TEST_IMAGES]))
    np.save(folder / "test_labels.npy", np.asarray(data.test.labels[:TEST_IMAGES], np.int64))
    np.save(folder / "training_images.npy", scaled(data.train.images[:TRAINING_IMAGES]))


def command(folder: Path, *arguments: str) -> str:
    """Runs a command in the folder; returns its output, prints its time and peak memory."""
    start = time.perf_counter()
    line = [sys.executable, "-m", "alexnet_tf1", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        sys.exit(f"{arguments[0]}: status {process.returncode}")
    print(
        f"{arguments[0]}: {time.perf_counter() - start:.1f} s, "
        f"{usage.ru_utime + usage.ru_stime:.1f} s of CPU, {usage.ru_maxrss / 1024:.0f} MiB"
    )
    return printed


def diagnose(folder: Path, model: str, out: str) -> None:
    """Prints the accuracies of a model in a table, by statistics, order and test batch size."""
    (folder / out).mkdir(exist_ok=True)
    given = ["--feed", "images=test_images.npy", "--labels", "test_labels.npy"]
    found = json.loads(command(folder, "diagnose", model, *given, "--out", out, "--json"))
    cells = {(c["mode"], c["order"], c["batch_size"]): c["accuracy"] for c in found["cells"]}
    print("| statistics | order |", " | ".join(f"{size:,}" for size in SIZES), "|")
    for mode, order in dict.fromkeys(key[:2] for key in cells):
        row = " | ".join(f"{100 * cells[mode, order, size]:.2f}" for size in SIZES)
        print(f"| {mode} | {order} | {row} |")
    layers = found["layers"]
    means, variances = ([layer[f"{k}_distance"] for layer in layers] for k in ("mean", "variance"))
    print(f"distances: mean {min(means):.2g} to {max(means):.2g}", end=", ")
    print(f"variance {min(variances):.3g} to {max(variances):.3g}")
    print(*found["verdict"], sep="\n", end="\n\n")


def measure(folder: Path) -> None:
    """Diagnoses, recalibrates into FOLDER/repaired, and diagnoses that."""
    model = next(folder.glob("model.ckpt-*.index")).stem
    for old in folder.glob("repaired.*"):
        old.unlink()
    diagnose(folder, model, "before")
    command(
        folder, "recalibrate", model, "--feed", "images=training_images.npy", "--out", "repaired"
    )
    diagnose(folder, "repaired", "after")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-dir")
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.what == "train":
        train(options.folder, options.data_dir, options.steps, options.seed)
    else:
        measure(options.folder)


if __name__ == "__main__":
    main()
